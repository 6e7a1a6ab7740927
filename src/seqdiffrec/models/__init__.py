"""Models, one paper a file, and the table of their names.

A new model is its file and a line here that imports it: docs/extending.md.
"""

from seqdiffrec.models.acvae import ACVAE as ACVAE, ACVAEConfig as ACVAEConfig
from seqdiffrec.models.base import (
    MODELS as MODELS,
    Loss as Loss,
    SequenceModel as SequenceModel,
    find_model as find_model,
)
from seqdiffrec.models.bert4rec import BERT4Rec as BERT4Rec, BERT4RecConfig as BERT4RecConfig
from seqdiffrec.models.cl4srec import CL4SRec as CL4SRec, CL4SRecConfig as CL4SRecConfig
from seqdiffrec.models.diffrec import DiffRec as DiffRec, DiffRecConfig as DiffRecConfig
from seqdiffrec.models.duorec import DuoRec as DuoRec, DuoRecConfig as DuoRecConfig
from seqdiffrec.models.gru4rec import GRU4Rec as GRU4Rec, GRU4RecConfig as GRU4RecConfig
from seqdiffrec.models.item_knn import ItemKNN as ItemKNN, ItemKNNConfig as ItemKNNConfig
from seqdiffrec.models.markov import Markov as Markov, MarkovConfig as MarkovConfig
from seqdiffrec.models.mfgan import MFGAN as MFGAN, MFGANConfig as MFGANConfig
from seqdiffrec.models.popularity import Popularity as Popularity
from seqdiffrec.models.sasrec import SASRec as SASRec, SASRecConfig as SASRecConfig
from seqdiffrec.models.stosa import STOSA as STOSA, STOSAConfig as STOSAConfig
from seqdiffrec.models.vsan import VSAN as VSAN, VSANConfig as VSANConfig
