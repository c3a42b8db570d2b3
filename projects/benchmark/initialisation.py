"""What IIF's small start of the classifier, N(0, .001), does to AP, beside Detectron2's N(0, .01).

python projects/benchmark/initialisation.py --config-file CONFIG KEY VALUE ...

Trains as train_net.py does, by its command line, with Detectron2's start; the benchmark's row
"IIF raw" has the other.
"""

from detectron2.engine import default_argument_parser

from iif_d2.engine import launch, main
from iif_d2.methods import IIF

if __name__ == "__main__":
    IIF.init_classifier = lambda self, classifier: None
    launch(main, default_argument_parser().parse_args())
