"""The model of `model/` in the form that transformers loads, trains, generates with and saves."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from loihi_mmfree.errors import CheckpointError, UsageError
from loihi_mmfree.hf.cache import RecurrentCache
from loihi_mmfree.hf.configuration import HGRNBitConfig
from loihi_mmfree.model.cross_entropy import next_token_loss
from loihi_mmfree.model.language_model import MatMulFreeLM, tapping
from loihi_mmfree.model.ternary import freeze, frozen


class HGRNBitForCausalLM(PreTrainedModel, GenerationMixin):
    """A MatMul-free language model as transformers knows it, with upstream's name and names of parameters.

    Its modules are those of `MatMulFreeLM`: it computes in float32, whatever the type of its parameters.

    Parameters
    ----------
    config : HGRNBitConfig
    """

    config_class = HGRNBitConfig
    base_model_prefix = "model"
    _tied_weights_keys = {"lm_head.weight": "model.embeddings.weight"}  # noqa: RUF012 (transformers' own form)
    _is_stateful = True
    # Asked for by transformers 4.50; later ones assume it.
    _supports_cache_class = True

    def __init__(self, config: HGRNBitConfig) -> None:
        super().__init__(config)
        reference = MatMulFreeLM(config.shape())
        self.model, self.lm_head = reference.model, reference.lm_head
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """Load a folder or a model of the hub, as every model of transformers does.

        Raises
        ------
        CheckpointError
            Tensors are missing or of another shape, which transformers would replace by random ones.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        absent = [*info["missing_keys"], *info["mismatched_keys"]]
        if absent:
            raise CheckpointError(
                f"{model.name_or_path}: missing or of the wrong shape: {sorted(map(str, absent))}"
            )
        return (model, info) if output_loading_info else model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: RecurrentCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        token_type_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Read tokens and predict what follows each of them.

        Parameters
        ----------
        input_ids : Tensor of int [B, T]
            Tokens, T >= 1.
        attention_mask : Tensor [B, S] or None
            Zero where there is padding, on either side; S >= T, and the last T columns are those of `input_ids`.
            Padding does not change the state; what is predicted at it means nothing.
        past_key_values : RecurrentCache or None
            Of earlier calls, to continue from there; it is changed in place. None is the beginning.
        labels : Tensor of int [B, T] or None
            Mostly `input_ids`, with -100 where nothing is to be predicted; they are shifted here.
        use_cache : bool or None
            Whether to return a cache. None is the configuration's answer, and no while training.
        output_hidden_states : bool or None
            Whether to return what the embedding, every block but the last, and the final norm give.
        return_dict : bool or None
            False asks for a tuple.
        logits_to_keep : int or Tensor
            Predict the last so many tokens only, or those at these places; 0 is all.
        token_type_ids : Tensor or None
            Not used: tokenizers of transformers 4 give them for every model.
        **kwargs
            For the loss: `num_items_in_batch`. What else transformers hands over (positions) has no use here.

        Returns
        -------
        CausalLMOutputWithPast
            `loss` [], `logits` of float32 [B, T, V], `past_key_values`, `hidden_states`. In training, with labels,
            there are no logits: the loss is computed without ever holding all of them.

        Raises
        ------
        UsageError
            The mask does not fit the tokens.
        """
        mask = _token_mask(attention_mask, input_ids)
        state = None if past_key_values is None else past_key_values.state
        shown = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        taps: dict[str, Tensor] | None = {} if shown else None
        with tapping(self._hidden_modules(), taps):
            hidden, state = self.model(input_ids, state, mask)
        if past_key_values is None and self._keeps_state(use_cache):
            past_key_values = RecurrentCache()
        if past_key_values is not None:
            past_key_values.update(state, input_ids.shape[1])
        loss = logits = None
        if labels is not None and self.training:
            loss = next_token_loss(self.lm_head, hidden, labels, kwargs.get("num_items_in_batch"))
        else:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(hidden[:, kept])
            if labels is not None:
                vocabulary = self.config.vocab_size
                loss = self.loss_function(logits=logits, labels=labels, vocab_size=vocabulary, **kwargs)
        output = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values,
            hidden_states=tuple(taps.values()) if taps is not None else None,
        )
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Continue texts, as every model of transformers does; its ternary weights are computed only once."""
        with frozen(self):
            return super().generate(*args, **kwargs)

    def freeze(self) -> HGRNBitForCausalLM:
        """Switch to evaluation and compute all ternary weights once, not in every call.

        `train()` undoes it; call it again after changing a weight.
        """
        self.eval()
        freeze(self)
        return self

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding."""
        return self.model.embeddings

    def get_output_embeddings(self) -> nn.Module:
        """Return the head."""
        return self.lm_head

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Module:
        """Return the embedding, if that many tokens is what it has.

        Raises
        ------
        UsageError
            It has another number of them. A ternary head has one scale, the mean of all of its rows: with new
            ones among them the model would be another.
        """
        if (new_num_tokens or self.config.vocab_size) != self.config.vocab_size or args or kwargs:
            raise UsageError(
                f"the vocabulary has {self.config.vocab_size} tokens and cannot become {new_num_tokens}; to pad, "
                "use a token that there is: tokenizer.pad_token = tokenizer.eos_token"
            )
        return self.model.embeddings

    def _init_weights(self, module: nn.Module) -> None:
        """Do nothing: `MatMulFreeLM` draws its weights when it is made."""

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """Whether `generate()` may make a cache of keys and values; the model makes its own instead."""
        return False

    def _keeps_state(self, use_cache: bool | None) -> bool:
        return (self.config.use_cache and not self.training) if use_cache is None else use_cache

    def _hidden_modules(self) -> list[tuple[str, nn.Module]]:
        """The modules whose outputs upstream calls hidden states, in the order of the data flow."""
        blocks = [(f"layers.{number}", block) for number, block in enumerate(self.model.layers)]
        return [("embeddings", self.model.embeddings), *blocks[:-1], ("norm", self.model.norm)]


def _token_mask(attention_mask: Tensor | None, ids: Tensor) -> Tensor | None:
    """The columns of a mask that belong to the tokens, as bool [B, T]."""
    if attention_mask is None:
        return None
    rows, columns = ids.shape
    if attention_mask.ndim != 2 or attention_mask.shape[0] != rows or attention_mask.shape[1] < columns:
        raise UsageError(
            f"attention_mask is {list(attention_mask.shape)}; for input_ids {list(ids.shape)} it must have {rows} "
            f"rows of {columns} columns or more, the last of them those of the tokens"
        )
    return attention_mask[:, -columns:] != 0
