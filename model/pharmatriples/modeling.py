"""The model: an encoder read in windows, and heads for mentions, attributes, aliases and relations.

Letters: `N` words and `T` pieces of a batch (of a document where one is meant), `M` mentions, `G` groups of
equally worded mentions, `E` entities, `P` pairs of mentions, `H` width of the encoder, `D` of a mention vector,
`K` of the hidden layer of a pair head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, initialization
from transformers.modeling_outputs import ModelOutput
from transformers.utils import logging

from .configuration import REGISTERED_PACKAGE, TriplesConfig
from .decoding import Spans, decode_tags, name_groups
from .extractor import Extractor
from .heads import Crf, PairHead, RivalHead, WordStates, means, odds, pair_loss, running_sum, segment_logsumexp
from .lanes import Lanes
from .pairs import (
    ALIAS_FEATURES,
    RELATION_FEATURES,
    alias_pairs,
    entity_pairs,
    pair_numbers,
    relation_pairs,
    rival_features,
)
from .prediction import PAIRS, Structure, tag_log_probs
from .schema import Schema
from .windows import SHAPES, EncodedText

# Most threads that predict beside each other: what is Python in it takes turns.
LANES = 4


@dataclass
class TriplesOutput(ModelOutput):
    """What `forward` gives.

    Attributes:
        loss: sum of the losses of the heads; only where targets are given.
        tag_logits: [N, 1 + 2 * types] of the words of all documents.
        word_states: [N, H].
    """

    loss: Tensor | None = None
    tag_logits: Tensor | None = None
    word_states: Tensor | None = None


@dataclass(frozen=True)
class Targets:
    """The gold structure of one document over its words.

    Attributes:
        tags: [N] label ids of the BIO tags.
        spans: the gold mentions.
        entities: [M] entity number of each mention.
        attributes: attribute -> [M] index of the value, -100 where the type has no such attribute.
        relations: the set of (relation index, head entity, tail entity).
    """

    tags: np.ndarray
    spans: Spans
    entities: np.ndarray
    attributes: dict[str, np.ndarray]
    relations: frozenset[tuple[int, int, int]]


class TriplesModel(PreTrainedModel):
    """Encoder and heads; `forward` gives tag logits, and the joint loss where targets are given."""

    config_class = TriplesConfig
    base_model_prefix = "encoder"
    accepts_loss_kwargs = False
    _supports_sdpa = True

    def __init__(self, config: TriplesConfig):
        super().__init__(config)
        if config.schema is None:
            raise ValueError("the model's configuration holds no schema; build it with schema=Schema.to_json()")
        self.schema = Schema.from_json(config.schema)
        # Said outright: a configuration must not be able to say it.
        self.encoder = AutoModel.from_config(config.encoder_config, trust_remote_code=False)
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # no head reads it
        width, size, hidden = config.encoder_config.hidden_size, config.mention_size, config.pair_size
        types, relations = len(self.schema.entities), len(self.schema.relations)
        self.dropout = nn.Dropout(config.head_dropout)
        # What an uncased encoder cannot see; 0 for pieces of no word.
        embedded = self.encoder.get_input_embeddings().embedding_dim
        self.piece_shapes = nn.Embedding(1 + len(SHAPES), embedded, padding_idx=0)
        self.words = WordStates(width)
        self.tagger = nn.Linear(width, 1 + 2 * types)
        self.crf = Crf(1 + 2 * types) if config.crf else None
        self.mention = nn.Linear(3 * width, size)
        self.type_embedding = nn.Embedding(types, size)
        self.attribute_heads = nn.ModuleDict(
            {
                attribute: nn.Linear(size, len(values))
                for attributes in self.schema.attributes.values()
                for attribute, values in attributes.items()
            }
        )
        self.alias_head = PairHead(size, hidden, (types, *ALIAS_FEATURES), config.head_dropout)
        self.relation_head = PairHead(
            size, hidden, (max(relations, 1), *RELATION_FEATURES), config.head_dropout, own=self.schema.rival_relations
        )
        self.context = nn.Linear(width, hidden)
        self.rivals = RivalHead(max(relations, 1))
        self.named = [type_ in self.schema.named_types for type_ in self.schema.entities]
        self.aliased = [type_ in self.schema.alias_types for type_ in self.schema.entities]
        self.signatures = self.schema.indexed_signatures
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Crf):
            initialization.zeros_(module.transitions)

    def forward(
        self,
        windows: list[dict[str, np.ndarray]],
        piece_index: np.ndarray,
        piece_words: np.ndarray,
        shapes: np.ndarray,
        gaps: np.ndarray,
        texts: list[EncodedText],
        targets: list[Targets] | None = None,
    ) -> TriplesOutput:
        """Tag logits of a batch that `Windower.batch` made, and the loss where targets are given.

        Args:
            windows: batches of windows, {"input_ids", "attention_mask", "piece_shapes": [w, l]}.
            piece_index: [T] place of each piece in the concatenated, flattened windows.
            piece_words: [T] word of each piece.
            shapes, gaps: [N] of the words.
            texts: the encoded texts, whose words follow each other in the tensors above.
            targets: gold structures, one a text.
        """
        index, owners, *looks = map(self._tensor, (piece_index, piece_words, shapes, gaps))
        pieces = self._piece_states(windows, index)
        # The heads are small and sum over many words: they stay in fp32 where the encoder runs in bf16.
        with torch.autocast(self.device.type, enabled=False):
            states = self.words(pieces, owners, *looks, texts)
            logits = self.tagger(self.dropout(states))
            loss = None if targets is None else self._loss(states, logits, texts, targets)
        return TriplesOutput(loss=loss, tag_logits=logits, word_states=states)

    def _piece_states(self, windows: list[dict[str, np.ndarray]], index: Tensor) -> Tensor:
        """[T, H] of the pieces, in fp32; what the windows have beyond them is gone when this returns."""
        read = [self.encode(**{name: self._tensor(array) for name, array in batch.items()}) for batch in windows]
        if not read:
            return self.words.norm.weight.new_zeros(0, len(self.words.norm.weight))
        joined = torch.cat(read)
        read.clear()
        return joined.index_select(0, index).float()

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def read(self, batch: dict[str, Any]) -> tuple[np.ndarray, Tensor]:
        """[N, tags] log-probabilities and [N, H] states of the words of a batch that `Windower.batch` made."""
        output = self(**batch)
        return self._log_probs(output.tag_logits, batch["texts"]), output.word_states

    def _log_probs(self, logits: Tensor, texts: list[EncodedText]) -> np.ndarray:
        return tag_log_probs(logits.detach(), texts, None if self.crf is None else self.crf().detach())

    alone = False  # whether a text must be read by itself, since what stands beside it would change its scores

    @property
    def token_budget(self) -> int:
        """Padded pieces in one forward of the encoder when it predicts: what stays in a processor's cache is faster."""
        return 512 if self.device.type == "cpu" else 16_384

    @property
    def lanes(self) -> Lanes:
        """Threads that predict beside each other, on the processors that torch may use."""
        if self.device.type != "cpu":
            return Lanes()
        threads = torch.get_num_threads()
        count = min(threads, LANES)

        def enter() -> None:
            torch.set_num_threads(threads // count)
            torch.get_num_threads()  # now the number is this thread's own

        # What is set in a thread holds for it, and for all that begin later.
        return Lanes(count, enter, lambda: torch.set_num_threads(threads))

    def inference(self) -> AbstractContextManager[Any]:
        """In this context, and in this thread, nothing is kept for gradients."""
        return torch.no_grad()

    def extract(self, texts: str | Iterable[str], tokenizer: Any, **kwargs: Any) -> Any:
        """What the pipeline gives for the same texts, to the last digit, where `AutoModel` loaded the model.

        Args:
            texts, kwargs: as for a call of the pipeline; see `Extractor`.
            tokenizer: the model's own, as `AutoTokenizer.from_pretrained` gives it.
        """
        return Extractor(self.heads_in_fp32(), tokenizer)(texts, **kwargs)

    def heads_in_fp32(self) -> TriplesModel:
        """The model itself, with all but the encoder in fp32, in whatever dtype it was loaded."""
        for name, module in self.named_children():
            if name != "encoder":
                module.float()
        return self

    def encode(self, input_ids: Tensor, attention_mask: Tensor, piece_shapes: Tensor) -> Tensor:
        """[w * l, H] states of the pieces of a batch of windows, whose shapes the encoder reads with them."""
        embedded = self.encoder.get_input_embeddings()(input_ids)
        embedded = embedded + self.piece_shapes(piece_shapes).to(embedded.dtype)
        return self.encoder(inputs_embeds=embedded, attention_mask=attention_mask).last_hidden_state.flatten(0, 1)

    def structure(self, states: Tensor, spans: Spans, text: EncodedText) -> Structure:
        """Mention vectors, attribute and alias scores of one document.

        Args:
            states: [N, H] states of its words.
            spans: its mentions.
        """
        first, last, types, words, owners = map(self._tensor, (spans.first, spans.last, spans.types, *spans.words()))
        vectors = self.mention_vectors(
            states.index_select(0, first),
            states.index_select(0, last),
            means(states.index_select(0, words), owners, len(spans)),
            types,
        )
        groups = name_groups(spans, spans.wordings(text.text, text.offsets), self.named)
        pairs, features = alias_pairs(spans, groups, text, self.aliased)
        grouped = means(vectors, self._tensor(groups), int(groups.max(initial=-1)) + 1)
        return Structure(
            vectors=vectors,
            attribute_logits={name: head(vectors) for name, head in self.attribute_heads.items()},
            groups=groups,
            alias_pairs=pairs,
            alias_logits=self._score(self.alias_head, grouped, pairs, features),
        )

    def mention_vectors(self, first: Tensor, last: Tensor, mean: Tensor, types: Tensor) -> Tensor:
        """[M, D], of the states [M, H] of the first and the last word of each, of their mean, and of the types [M]."""
        vectors = self.mention(self.dropout(torch.cat([first, last, mean], dim=1)))
        return nn.functional.gelu(vectors + self.type_embedding(types))

    def relation_logits(
        self, states: Tensor, vectors: Tensor, spans: Spans, entities: np.ndarray, text: EncodedText
    ) -> tuple[np.ndarray, Tensor]:
        """Log-odds of the relations that the schema allows between the entities.

        A pair's logit is the log-sum-exp over its pairs of mentions (Zhou et al. 2021, ATLOP, section 3.1, pools the
        mentions instead); each pair of mentions sees both vectors, the mean state of the words between them and
        what `pairs.RELATION_FEATURES` lists. Then `RivalHead` sets the pairs against each other, and `odds` the
        relations that may join one pair.

        Args:
            states: [N, H]; vectors: [M, D]; entities: [M] entity of each mention.

        Returns:
            triples [Q, 3] of relation index, head entity and tail entity, and their log-odds [Q].
        """
        triples, alone = self._pair_logits(states, vectors, spans, entities, text)
        relations, numbers = self._tensor(triples[:, 0]), self._tensor(pair_numbers(triples))
        return triples, odds(alone + self._rival_logits(triples, alone, numbers), relations, numbers)

    def _rival_logits(self, triples: np.ndarray, alone: Tensor, numbers: Tensor) -> Tensor:
        """[Q] what the rivals of each pair change in its logit; no gradient goes back through the logits [Q].

        Args:
            triples: [Q, 3]; alone: [Q] logits; numbers: [Q] of the pairs of entities.
        """
        relations = self._tensor(triples[:, 0])
        known = odds(alone.detach(), relations, numbers).cpu().numpy()
        return self.rivals(torch.from_numpy(rival_features(triples, known)).to(alone), relations)

    def _pair_logits(
        self, states: Tensor, vectors: Tensor, spans: Spans, entities: np.ndarray, text: EncodedText
    ) -> tuple[np.ndarray, Tensor]:
        """`relation_logits` with each pair by itself."""
        pairs, features, between = relation_pairs(spans, entities, text, self.signatures)
        context = nn.functional.pad(running_sum(self.context(states)), (0, 0, 1, 0))
        low, high = self._tensor(between).unbind(1)
        scores = self._score(self.relation_head, vectors, pairs, features, (context, low, high))
        triples, inverse = entity_pairs(pairs, features, entities)
        return triples, segment_logsumexp(scores, self._tensor(inverse), len(triples))

    def _score(
        self,
        head: PairHead,
        vectors: Tensor,
        pairs: np.ndarray,
        features: np.ndarray,
        between: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        """[P] logits, in stretches that bound the memory.

        Args:
            between: running sums [N + 1, K] of the context and the words [P] where each pair's own begins and ends.
        """
        index, values = self._tensor(pairs), self._tensor(features)
        parts = []
        for at in range(0, max(len(index), 1), PAIRS):
            part = slice(at, at + PAIRS)
            context = None
            if between is not None:
                sums, low, high = between[0], between[1][part], between[2][part]
                context = (sums.index_select(0, high) - sums.index_select(0, low)).float()
                context = context / (high - low).clamp(min=1).unsqueeze(1)
            parts.append(head(vectors, index[part, 0], index[part, 1], values[part], context))
        return torch.cat(parts)

    def _loss(self, states: Tensor, logits: Tensor, texts: list[EncodedText], targets: list[Targets]) -> Tensor:
        """Mean over the documents of the losses of all heads, on gold mentions and on those now predicted."""
        loss = logits.new_zeros(())
        log_probs = self._log_probs(logits, texts)
        at = 0
        for text, target in zip(texts, targets, strict=True):
            part = slice(at, at := at + len(text))
            tags = torch.from_numpy(target.tags).to(logits.device)
            if self.crf is None or not len(text):
                tag_loss = nn.functional.cross_entropy(logits[part], tags, reduction="sum")
            else:
                tag_loss = self.crf.loss(logits[part], tags, text.lines)
            loss = loss + self.config.tag_weight * tag_loss / (max(len(text), 1) * len(texts))
            views = [(target.spans, np.arange(len(target.spans)))]
            predicted = decode_tags(log_probs[part], text.lines)
            # In the first steps nearly every word is predicted to be a mention: nothing to learn from.
            if len(predicted) <= 2 * len(target.spans):
                views.append((predicted, match(predicted, target.spans)))
            for spans, gold in views:
                if len(spans):
                    loss = loss + self._structure_loss(states[part], spans, gold, text, target) / (
                        len(views) * len(texts)
                    )
        return loss

    def _structure_loss(
        self, states: Tensor, spans: Spans, gold: np.ndarray, text: EncodedText, target: Targets
    ) -> Tensor:
        """Attribute, alias and relation losses over mentions of which `gold` [M] names the gold one, or -1."""
        structure = self.structure(states, spans, text)
        device = states.device
        loss = states.new_zeros(())
        for name, values in structure.attribute_logits.items():
            wanted = torch.from_numpy(np.where(gold >= 0, target.attributes[name][gold], -100)).to(device)
            if (wanted >= 0).any():
                loss = loss + nn.functional.cross_entropy(values, wanted)
        # A mention that is no gold one is an entity of its own, without relations.
        count = int(target.entities.max(initial=-1)) + 1
        entities, names = numbered(np.where(gold >= 0, target.entities[gold], count + np.arange(len(gold))))
        if len(structure.alias_pairs):
            owner = owners(structure.groups, entities, gold >= 0)
            same = owner[structure.alias_pairs[:, 0]] == owner[structure.alias_pairs[:, 1]]
            loss = loss + nn.functional.binary_cross_entropy_with_logits(
                structure.alias_logits, torch.from_numpy(same).to(device).float()
            )
        triples, alone = self._pair_logits(states, structure.vectors, spans, entities, text)
        if len(triples):
            true = self._related(triples, names, target)
            wanted, numbers = self._tensor(true).float(), self._tensor(pair_numbers(triples))
            # Nearly all pairs are none: a mean over the pairs would leave next to nothing of those that are.
            share = 1 / (1 + int(true.sum()))
            for scores in (alone, alone + self._rival_logits(triples, alone, numbers)):
                loss = loss + share * pair_loss(scores, wanted, numbers)
        return loss

    def _related(self, triples: np.ndarray, names: np.ndarray, target: Targets) -> np.ndarray:
        """[Q] whether each of the triples [Q, 3] is annotated, where `names` [E] says which gold entity each one is."""
        symmetric = {relation for relation, _, _, symmetric in self.signatures if symmetric}
        true = np.zeros(len(triples), dtype=bool)
        for number, (relation, head, tail) in enumerate(triples.tolist()):
            orders = [(head, tail), (tail, head)] if relation in symmetric else [(head, tail)]
            true[number] = any((relation, names[one], names[other]) in target.relations for one, other in orders)
        return true


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and reports of transformers about loading weights."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def numbered(entities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entities [M] numbered in the order of their first mentions, as those that are predicted are.

    Returns:
        [M] the new numbers, and [E] the old number of each.
    """
    names, first, inverse = np.unique(entities, return_index=True, return_inverse=True)
    order = first.argsort()
    return order.argsort()[inverse], names[order]


def owners(groups: np.ndarray, entities: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[G] the entity of each group of mentions [M], as the last one of them has it that is `known`, if any is."""
    owner = np.zeros(int(groups.max(initial=-1)) + 1, dtype=np.int64)
    order = np.argsort(known, kind="stable")
    owner[groups[order]] = entities[order]
    return owner


def match(predicted: Spans, gold: Spans) -> np.ndarray:
    """[M] for each predicted mention the gold mention of its type with which it shares the most words, or -1."""
    result = np.full(len(predicted), -1, dtype=np.int64)
    if len(gold) == 0:
        return result
    shared = np.minimum(predicted.last[:, None], gold.last) - np.maximum(predicted.first[:, None], gold.first) + 1
    shared = np.where(predicted.types[:, None] == gold.types, shared, 0)
    best = shared.argmax(axis=1)
    return np.where(shared[np.arange(len(predicted)), best] > 0, best, -1)


if __package__ == REGISTERED_PACKAGE:
    AutoModel.register(TriplesConfig, TriplesModel, exist_ok=True)
