"""The page that shows what one or two runs learned."""
