"""Published figures: value vectors of the model of the findings, and the tokens nearest to them. Data, no torch.

QWEN_3B   the ten vectors of Part II of the discussion, by layer and index, with the tokens of v and of -v

They were read in Qwen2.5-3B after TinyZero reinforcement learning on Countdown, ten tokens a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Neuron = tuple[int, int]
Tokens = tuple[str, ...]


@dataclass(frozen=True)
class VectorTables:
    """Attributes:
    model: which the tables are of; its shape stands for it, since its children have the same.
    shape: layers, heads, d_model, d_mlp.
    vectors: by "success" and "failure", by layer and index, the tokens nearest to v and those nearest to -v.
    """

    model: str
    shape: tuple[int, int, int, int]
    vectors: Mapping[str, Mapping[Neuron, tuple[Tokens, Tokens]]]


def ten(tokens: str) -> Tokens:
    return tuple(tokens.split("|"))


QWEN_3B = VectorTables(
    "Qwen2.5-3B",
    (36, 16, 2048, 11008),
    {
        "success": {
            (30, 8233): (
                ten(" correctly|正确|恰当| accurately|符合|合适| properly| adequately|准确| accurate"),
                ten(" wrong|不良| incorrect|wrong| invalid| bad| inappropriate|invalid|不合格|不当"),
            ),
            (26, 6475): (
                ten("倒是|不失|适度|successful|.success|却是| successful|没事|完好|还不错"),
                ten(" also| likewise|Also|也同样| тоже| também|也非常| également| ALSO| Also"),
            ),
            (29, 6676): (
                ten(' yes| Yes|Bindable| exactly|Yes|"Yes|yes| Yep| Exactly| included'),
                ten("都不|不太| neither|不予|没见过|都不是|不曾|不开|不具备|都没有"),
            ),
            (25, 1124): (
                ten("ELY|怫|yes| Awesome|itchen|没错|etur|即时发生|ños|emade"),
                ten('根本|Prom| Prom|)NULL|">×<|都不|丝毫|ari| never|抑制'),
            ),
            (27, 10388): (
                ten(" mirac|乐观|安然| Relief|幸|.isSuccess|.SUCCESS| favorable|优点|顺利"),
                ten("失败| failure|不良|不利|糟糕|失误| failures| bad|失|失望"),
            ),
        },
        "failure": {
            (27, 4971): (
                ten(" inefficient|没能|inity|不方便|Danger| disadvantage|不利于|还不如| challenged|ขาด"),
                ten(" successfully| successful|顺利|成功|删除成功|良好| succesfully|.success|successfully|successful"),
            ),
            (26, 744): (
                ten("未能|不够| nicht|不像|达不到|不清楚|不具备|不到位|不符|还不"),
                ten("慎|足|同等| tend|ONDON|足以|均衡|谨慎| equal|fast"),
            ),
            (23, 7356): (
                ten("不利于|造成了|会造成|严重影响|禁止| threaten| threatens|不可避免|严重| caution"),
                ten("从容| nhờ|rar| grâce| waive|就好了|无忧| easier|有信心|kek"),
            ),
            (26, 6619): (
                ten("缺乏|缺少|不方便| lacks|难以|未能|无法| lack|得不到|不符合"),
                ten("不仅能|不错的|不错|具有良好|总算|这样才能|有足够的|良好|不仅可以| sane"),
            ),
            (27, 9766): (
                ten("是不可能| neither|看不到|不存在|是不会| nowhere| nothing| none|没有任何|都没有"),
                ten("might| maybe|may|maybe| might|Maybe|有时候|部分地区| may|.some"),
            ),
        },
    },
)
