from ._attribution import atom_attribution as atom_attribution
from ._attribution import gene_attribution as gene_attribution
from ._differential import differential_genes as differential_genes
from ._enrichment import class_enrichment as class_enrichment
from ._latent_map import latent_map as latent_map
from ._mixing import cell_line_mixing as cell_line_mixing
from ._neighbors import neighbor_change as neighbor_change
from ._neighbors import same_class_neighbors as same_class_neighbors
from ._plot._attribution_displays import (
    AtomAttributionDisplay as AtomAttributionDisplay,
)
from ._plot._attribution_displays import (
    GeneAttributionDisplay as GeneAttributionDisplay,
)
from ._plot._enrichment_displays import EnrichmentDisplay as EnrichmentDisplay
from ._plot._enrichment_displays import RunningSumDisplay as RunningSumDisplay
from ._plot._latent_map_display import LatentMapDisplay as LatentMapDisplay
from ._plot._regression_displays import RegressionDisplay as RegressionDisplay
from ._plot._regression_displays import SpecificityDisplay as SpecificityDisplay
from ._plot._regression_displays import (
    TrainingDistanceDisplay as TrainingDistanceDisplay,
)
from ._plot._search_displays import (
    ParameterImportanceDisplay as ParameterImportanceDisplay,
)
from ._plot._search_displays import ParameterScoreDisplay as ParameterScoreDisplay
from ._regression import performance_regression as performance_regression
from ._search import parameter_importance as parameter_importance
from ._training_distances import TRAINING_DISTANCES as TRAINING_DISTANCES
from ._training_distances import training_distances as training_distances
