"""Write a model folder without weights that tokenises offline, one made-up word a token: tiny_model.py FOLDER."""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # type: ignore[import-not-found]  # of the service's environment

# With few words the front end holds text back until the end, and then knows no latency between tokens.
VOCABULARY = 32_000
CONTEXT_TOKENS = 8192
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def tokenizer() -> Tokenizer:
    """Every byte is a token (of text that comes in), and so is each of ` w0`, ` w1`, ... (of text that goes out)."""
    tokens = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    space = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(" ")[0][0]
    tokens += [f"{space}w{i}" for i in range(VOCABULARY - len(tokens))]
    made = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def main(folder: Path) -> None:
    """Write tokenizer and configuration."""
    folder.mkdir(parents=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    specials = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    shape = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "num_hidden_layers": 2,
    }
    files = {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": VOCABULARY,
            "max_position_embeddings": CONTEXT_TOKENS,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "rms_norm_eps": 1e-5,
            "torch_dtype": "float32",
            "tie_word_embeddings": False,
            **shape,
        },
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2, "max_length": CONTEXT_TOKENS},
        "special_tokens_map.json": specials,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": CONTEXT_TOKENS,
            "chat_template": TEMPLATE,
            **specials,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
