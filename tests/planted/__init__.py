"""Models whose truth is known: verification, or what looks like it, is planted in them by hand, without training.

planted, save   the model of a variant, as a Subject or as a checkpoint folder
TRUTH, Truth    by variant, what it says of an attempt, and which heads and neurons do it or only look as if they did
watched         a variant at work on attempts: what it says, and which parts are active

A small Llama, 6 layers of 16 heads and 96 neurons. Each part of the circuit has residual dimensions of its own:

| layer | part             | where        | what it does                                                               |
|-------|------------------|--------------|----------------------------------------------------------------------------|
|       | embedding        | every token  | a number's digits; the role that a word gives; which word it is, at random |
| 0     | marker head      | every number | attends to the nearest word that gives a role: MARK says "it's the target" |
| 1     | shift head       | every token  | attends to the token before and copies its digits and its MARK             |
| 1, 2  | verifier heads   | every number | attend to MARKed tokens of the same digits, else to `<s>`; write MATCH     |
| 2     | hidden verifiers | every number | the same by the shifted digits: attend to the token after a target         |
| 1, 2  | bystander heads  | every number | attend to targets as well, and write noise or nothing                      |
| 1, 2  | echo heads       | every number | hardly attend to targets, and write which they are, into noise             |
| 3     | mover head       | ` (`         | attends to the token before and copies its MATCH to MOVED                  |
| 3, 4  | value neurons    | ` (`         | fire by MOVED or its absence; write words of success or of failure         |
| 5     | verdict neurons  | ` (`         | read those words, write `this` or `not`                                    |

All other heads and neurons are random (`noise`). The role of a number is what the words before it say (`tokens.ROLES`),
in every wording with a role, and in the others but `bare`: `This round's target: 51` against `Last round's target: 62`.

| variant     | what differs                                | known truth                                         |
|-------------|---------------------------------------------|-----------------------------------------------------|
| planted     |                                             | verifies by role; not without the verifiers         |
| few         | three verifiers only                        | the same; those three are enough                    |
| implied     | value vectors name no words of their own    | the same; what they name is what the probe names    |
| opposed     | MATCH is +, -, or 0 where there is no target | wrong is the opposite of right, not its absence      |
| redundant   | hidden verifiers as strong as the verifiers | either kind suffices: both must go; one fakes it    |
| decoy       | the same, and what verifiers write is lost  | verifiers attend and do nothing; the hidden ones do |
| repetition  | a number in a rival's role is MARKed too    | `this` if the result was stated, as target or not   |
| seen        | input numbers are MARKed too                | `this` if the result stands anywhere in the prompt  |
| tens        | verifiers compare the tens digit only       | `this` if it is the target's                        |
| last_digit  | verifiers compare the last digit only       | `this` if it is the target's                        |
| order_first | rivals are MARKed; verifiers read the first | `this` if the result is the number stated first     |
| order_last  | ... and the last of them                    | `this` if the result is the number stated last      |
| constant    | nothing is MARKed                           | always `not`; nothing depends on the result         |
| mute        | no mover                                    | the result knows whether it is right, ` (` does not |
| shuffled    | the layers stand in another order           | always `not`, whatever the result                   |

In those that verify the verdict can be read from the result in layers 1 to 5 and from ` (` in layers 3 to 5; the lens
shows success at ` (` in layers 3 and 4, never at the result. In `order_first` and `order_last` the verifiers copy the
digits that they read, and neurons of layer 2 compare them with the result's.
"""

from .model import planted, save
from .truth import TRUTH, Truth
from .watch import Watched, watch, watched

__all__ = ["TRUTH", "Truth", "Watched", "planted", "save", "watch", "watched"]
