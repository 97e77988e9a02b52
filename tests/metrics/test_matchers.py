"""Which responses give the reference answer: rows of what language models write, and properties."""

from __future__ import annotations

import string
import time
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.metrics.graded import ByCategory
from laser_pl.metrics.matchers import Choice, Exact, Matcher, Number, Regex, YesNo, divided, final_part

TAGGED = r"<answer>(.*?)</answer>"

NUMBERS: list[tuple[str, str, bool]] = [
    # plain, units, money
    ("12 eggs, so Final answer: $1,234.00.", "1234", True),
    ("Final answer: 42", "42", True),
    ("Final answer: 42", "41", False),
    ("Final answer: 42.", "42", True),
    ("Final answer: 42..", "42", True),
    ("Final answer: 42!", "42", True),
    ("Final answer: 5.", "5", True),
    ("Final answer: $5.00", "5", True),
    ("Final answer: 5 dollars", "5", True),
    ("Final answer: €5", "5", True),
    ("Final answer: US$5", "5", True),
    ("Final answer: 5$", "5", True),
    ("Final answer: 80 km/h", "80", True),
    ("Final answer: 80km/h", "80", True),
    ("Final answer: 5 m^2", "5", True),
    ("Final answer: 5 m²", "5", True),
    ("Final answer: 90°", "90", True),
    ("Final answer: 7 days", "7", True),
    ("Final answer: 7 days", "8", False),
    ("Final answer: 007", "7", True),
    ("Final answer: 5.0", "5", True),
    ("Final answer: 5.05", "5", False),
    ("Final answer: 5.05", "5.5", False),
    ("Final answer: .5", "0.5", True),
    ("Final answer: 0.5", "1/2", True),
    ("Final answer: 12th", "12", True),
    ("-3.50", "-3.5", True),
    (".5", "0.5", True),
    ("no number", "7", False),
    ("no number", "none either", False),
    ("Final answer: A4", "4", False),
    ("Final answer: H2O", "2", False),
    # signs
    ("-3", "3", False),
    ("Final answer: -3", "-3", True),
    ("Final answer: - 3", "-3", True),
    ("Final answer: +3", "3", True),
    ("Final answer: \u22125", "5", False),
    ("Final answer: \u22125", "-5", True),
    ("Final answer: \u20135", "-5", True),  # an en dash that touches the number
    ("Final answer: \uff0d5", "-5", True),
    ("Final answer: \u2010\uff15", "-5", True),
    ("Final answer: (-5)", "-5", True),
    ("Final answer: (-5)", "5", False),
    ("Final answer: -$5", "-5", True),
    ("Final answer: $-5", "-5", True),
    ("Final answer: negative 5", "-5", True),
    ("Final answer: minus 5", "5", False),
    ("Final answer \u2014 5", "5", True),  # punctuation
    ("Final answer - 5", "5", True),
    ("Final answer: -5", "\u22125", True),
    ("Final answer: \u00b15", "5", False),
    ("Final answer: 0", "-0", True),
    # fractions, mixed numbers, percentages
    ("Final answer: 3/2", "1/2", False),
    ("Final answer: 1/2", "2", False),
    ("Final answer: 1/2", "1", False),
    ("Final answer: 1/2", "0.5", True),
    ("Final answer: 1 / 2", "2/4", True),
    ("Final answer: 6/2", "3", True),
    ("Final answer: -3/4", "-0.75", True),
    ("Final answer: 1/3", "0.33", False),
    ("Final answer: 1/3", "2/6", True),
    ("Final answer: \u00bd", "0.5", True),
    ("Final answer: 2\u00bd", "2.5", True),
    ("Final answer: 1 1/2", "1.5", True),
    ("Final answer: 1 1/2", "1/2", False),
    ("Final answer: 1 1/2", "11/2", False),
    ("Final answer: -1 1/2", "-1.5", True),
    ("Final answer: 1 and 1/2", "3/2", True),
    ("Final answer: 3/0", "3", False),
    ("Final answer: 1/2/3", "1", False),
    ("Final answer: 12/25/2020", "12", False),
    ("Final answer: 50%", "50", True),
    ("Final answer: 50%", "0.5", True),
    ("Final answer: 0.5", "50%", True),
    ("Final answer: 50 percent", "50%", True),
    ("Final answer: 5%", "0.5", False),
    ("Final answer: 50", "0.5", False),
    ("Final answer: 50\\%", "50", True),
    ("Final answer: 3:2", "3", False),
    ("Final answer: 3:2", "2", False),
    # powers of ten and others
    ("Final answer: 1.5e3", "1500", True),
    ("The answer is 1.5e3.", "1500", True),
    ("The answer is 10^3. That is all.", "1000", True),
    ("The answer is 0e+0.", "0", True),
    ("Final answer: 1.5E+3", "1500", True),
    ("Final answer: 1.5e-3", "0.0015", True),
    ("Final answer: 1.5e3", "1.5", False),
    ("Final answer: 10^3", "1000", True),
    ("Final answer: 10^3", "10", False),
    ("Final answer: 10**3", "1000", True),
    ("Final answer: 10\u00b3", "1000", True),
    ("Final answer: 10^{-2}", "0.01", True),
    ("Final answer: 2^10", "1024", True),
    ("Final answer: 1.5 x 10^3", "1500", True),
    ("Final answer: 1.5 \u00d7 10\u00b3", "1500", True),
    (r"Final answer: $1.5 \times 10^{3}$", "1500", True),
    (r"Final answer: $1.5 \cdot 10^3$", "15", False),
    ("Final answer: 2^x", "2", False),
    ("Final answer: 10^10^10", "10", False),
    ("Final answer: 9^9999", "9", False),
    ("Final answer: 1e999999999999", "1", False),
    ("Final answer: 1.5 million", "1500000", True),
    ("Final answer: 5 thousand", "5000", True),
    ("Final answer: 5 thousand", "5", False),
    # thousands
    ("Final answer: 1,000", "1000", True),
    ("Final answer: 1,000, I think", "1000", True),
    ("Final answer: 1,000", "1", False),
    ("12,345,678", "12345678", True),
    ("Final answer: 1,00,000", "100000", True),
    ("Final answer: 1,0000", "10000", True),
    ("Final answer: 1,00", "100", False),
    ("Final answer: 1 000", "1000", True),
    ("Final answer: 1\u202f000\u202f000", "1000000", True),
    ("Final answer: 1'000", "1000", True),
    ("Final answer: 1\u2019000", "1000", True),
    ("Final answer: 1.000", "1", True),  # English: a decimal point
    ("Final answer: 1.000", "1000", False),
    ("Final answer: 1.000.000", "1000000", True),
    ("Final answer: 1.234,5", "1234.5", True),
    (r"Final answer: 1{,}000", "1000", True),
    (r"Final answer: $1\,000$", "1000", True),
    ("1,23", "123", False),
    ("Final answer: 1,23", "1", False),
    ("Final answer: 1,23", "23", False),
    ("9007199254740993", "9007199254740992", False),
    # LaTeX
    (r"So \boxed{7}.", "7", True),
    (r"So \boxed{7}.", "8", False),
    (r"Final answer: \boxed{\frac{3}{4}}", "4", False),
    (r"Final answer: \boxed{\frac{3}{4}}", "3", False),
    (r"Final answer: \boxed{\frac{3}{4}}", "0.75", True),
    (r"Final answer: $\dfrac{3}{4}$", "3/4", True),
    (r"Final answer: \(\tfrac34\)", "0.75", True),
    (r"Final answer: $-\frac{3}{4}$", "-0.75", True),
    (r"Final answer: $\frac{-3}{4}$", "-0.75", True),
    (r"Final answer: $1\frac{1}{2}$", "1.5", True),
    (r"Final answer: $\frac{x}{4}$", "4", False),
    (r"Final answer: $\frac{\sqrt{3}}{2}$", "2", False),
    (r"The answer is $\boxed{\text{18 eggs}}$", "18", True),
    (r"Thus $x = \boxed{\$18}$", "18", True),
    (r"First \boxed{3}, so in the end \boxed{8}.", "8", True),
    (r"Final answer: \[ 18 \]", "18", True),
    (r"Final answer: \( x = 18 \)", "18", True),
    (r"Final answer: $18\text{ km}$", "18", True),
    (r"Final answer: $90^\circ$", "90", True),
    (r"Final answer: $\sqrt{2}$", "2", False),
    ("Final answer: \u221a2", "2", False),
    (r"Final answer: $2\sqrt{3}$", "2", False),
    (r"Final answer: $2\pi$", "2", False),
    ("Final answer: 2\u03c0", "2", False),
    (r"Final answer: $\pi/2$", "2", False),
    (r"Final answer: $\infty$", "8", False),
    ("Final answer: inf", "7", False),
    ("Final answer: nan", "7", False),
    ("Final answer: 2x", "2", False),
    ("Final answer: 2x + 3", "3", False),
    ("Final answer: x/2", "2", False),
    ("Final answer: x+1", "1", False),
    ("Final answer: x + 1", "1", False),
    ("Final answer: 5 + x", "5", False),
    ("Final answer: 5 - x", "5", False),
    ("Final answer: 2(x+1)", "2", False),
    (r"Final answer: $3+\sqrt{2}$", "3", False),
    (r"Final answer: $\sqrt{2} + 3$", "3", False),
    ("Final answer: x = -5", "-5", True),
    ("Final answer: 18 - a total of all", "18", True),
    ("Final answer: x^2", "2", False),
    ("Final answer: 2i", "2", False),
    ("Final answer: 5(a+1)", "5", False),
    ("Final answer: 0x10", "0", False),
    (r"Final answer: $\log_2 8$", "8", False),
    (r"Final answer: $\sum_{n=1}^{10} n$", "1", False),
    (r"Final answer: $\sin 30^\circ$", "30", False),
    # sums, lists, ranges
    ("5 + 2 = 7", "7", True),
    ("7 is 5 + 2", "7", False),
    ("Final answer: 5 + 2 = 7 eggs", "7", True),
    ("Final answer: 5 + 2 = 7", "2", False),
    ("Final answer: 7 = 5 + 2", "7", True),
    ("Final answer: x = 5", "5", True),
    ("Final answer: x = 5 and y = 3", "3", False),
    ("Final answer: x = 5 or x = -5", "5", False),
    ("Final answer: x > 5", "5", False),
    (r"Final answer: $x \leq 5$", "5", False),
    ("Final answer: 5 + 2", "5", False),
    ("Final answer: 5 + 2", "2", False),
    ("Final answer: 7 or 8", "7", False),
    ("Final answer: 7 or 8", "8", False),
    ("Final answer: 7, 8", "8", False),
    ("Final answer: 3-5", "3", False),
    ("Final answer: 3-5", "5", False),
    ("Final answer: 3 - 5", "-5", False),
    ("Final answer: between 3 and 5", "3", False),
    ("Final answer: 3 to 5", "5", False),
    ("Final answer: (1, 5)", "5", False),
    ("Final answer: 5 feet 3 inches", "5", False),
    ("Final answer: 18 dollars and 50 cents", "18", False),
    ("Final answer: \u2248 18", "18", True),
    # sentences
    ("7 is 5 + 2", "2", False),
    ("The final answer is 12.", "12", True),
    ("The answer is 12, since 3 * 4 = 12.", "12", True),
    ("The answer is 18 per day, for 7 days.", "18", True),
    ("Final answer: $18 per day for 7 days.", "18", True),
    ("Final answer: $18 per day for 7 days.", "7", False),
    ("Final answer: She makes $18 every day for 7 days.", "18", True),
    ("Final answer: The total cost for 3 books is $45.", "45", True),
    ("Final answer: The total cost for 3 books is $45.", "3", False),
    ("Final answer: There are 18 eggs left after 7 days.", "18", True),
    ("Final answer: The farmer sold 3 chickens for $45", "45", True),
    ("Final answer: about 18", "18", True),
    ("Final answer: 18 (since 3 * 6 = 18)", "18", True),
    ("Final answer: 18 (3 times 6)", "6", False),
    ("Final answer: 18, because 3 + 15 is 18", "18", True),
    ("Final answer: 18, because 3 + 15 is 18", "3", False),
    ("Final answer: twelve", "12", True),
    ("Final answer: Twenty-one eggs", "21", True),
    ("Final answer: The number is two hundred and five.", "205", True),
    ("Final answer: twelve", "2", False),
    ("Final answer: one of them", "1", False),
    ("Final answer: \u0661\u0662", "12", True),  # Arabic digits
    ("Final answer: \uff11\uff12", "12", True),
    # text after the answer, and before it
    ("Final answer: 42. I am confident in this final answer.", "42", True),
    ("Final answer: 42\nI am 100% sure.", "42", True),
    ("Final answer: 42\n\nNote: 3 of the 45 were broken.", "42", True),
    ("Final answer: 42\nFinal answer: 43", "43", True),
    ("Final answer: 42\nFinal answer: 43", "42", False),
    ("The format is `Final answer: ...`. Final answer: 42", "42", True),
    ("Final answer: 42. I used the format `Final answer:...`.", "42", True),
    ("Final answer: 18\n\nQuestion: Tom has 5 apples. How many are left after 2?\nSolution: ", "18", True),
    ("Final answer: 18\n\nQuestion: Tom has 5 apples.\nSolution: 5\nFinal answer: 5", "18", True),
    ("Final answer: 18\n\nQuestion: Tom has 5 apples.\nSolution: 5\nFinal answer: 5", "5", False),
    ("Final answer: 18\nQ: 3 + 4?\nA: 7", "18", True),
    ("Final answer: 18\n\n### Problem 2:\nFinal answer: 5", "18", True),
    ("Final answer: 18\n\nYour task is to answer the question below. Final answer: 5", "18", True),
    ("Final answer: 18<|im_end|>\n<|im_start|>user\nFinal answer: 5", "18", True),
    ("#### 18\n\nQuestion: Tom has 5 apples.\n#### 5", "18", True),
    ("It is 18.\n\nQuestion: Tom has 5 apples.", "18", True),
    ("Question: Tom has 5 apples and 2.\nFinal answer: 7", "7", True),
    ("Final answer: not 18", "18", False),
    ("Final answer: five (5)", "5", True),
    ("Final answer: 18 Question: How many are 5?", "18", True),
    ("She makes 9 * 2 = $<<9*2=18>>18 every day at the market.", "18", True),
    # Markdown
    ("**Final answer:** 7", "7", True),
    ("**Final Answer**: **7**", "7", True),
    ("**Final answer: 7**", "7", True),
    ("### Final Answer\n\n7", "7", True),
    ("## Final answer:\n**7** eggs", "7", True),
    ("Final answer: `7`", "7", True),
    ("Final answer: *7*", "7", True),
    ("Final answer: __7__", "7", True),
    ("FINAL ANSWER:7 eggs", "so 3+4\n#### 7", True),
    ("first #### 3, then #### 8", "8", True),
    ("#### 72", "48+24 = <<48+24=72>>72\n#### 72", True),
    ("Final answer: 7\n#### Check\n3 + 4 is right.", "7", True),
    ("#### Step 1: Add\n3 + 4 = 7\n#### Result\nThere are 7.", "7", True),
    ("#### 1. Add\n3 + 4 = 7\n#### 2. Result\nThere are 7.", "7", True),
    ("#### 1. Add\n3 + 4 = 7\n#### 2. Result\nThere are 7.", "2", False),
    ("#### 7\n#### Check: 3 + 4", "7", True),
    ("### Answer: 7", "7", True),
    ("**Answer:** 7", "7", True),
    ("## Answer\n7", "7", True),
    (r"\fbox{7}", "7", True),
    ("#### $7", "7", True),
    ("Final Answer: The final answer is $7$. I hope it is correct.", "7", True),
    # thoughts
    ("<think>Final answer: 3? No.</think>\n\n18", "18", True),
    ("<think>Final answer: 18</think>\n\nI don't know.", "18", False),
    ("[THINK]3 + 4[/THINK]The answer is 18.", "18", True),
    ("Final answer: 3\n</think>\n\nIt is **18**.", "18", True),
    # parts in words, thousands in letters
    ("Final answer: two thirds", "2", False),
    ("Final answer: two thirds of them", "2/3", True),
    ("Final answer: three and a half", "3", False),
    ("Final answer: Three and a half cups", "3.5", True),
    ("Final answer: 3 and a half", "3.5", True),
    ("Final answer: one half", "1", False),
    ("Final answer: twenty-third", "23", False),
    ("Final answer: $3k", "3", False),
    ("Final answer: $3k", "3000", True),
    ("Final answer: 2.5k people", "2500", True),
    ("Final answer: \u00a31.5m", "1500000", True),
    ("Final answer: $1.5bn", "1500000000", True),
    ("Final answer: 1.5m", "1.5", True),  # metres
    ("Final answer: 300K", "300", True),  # kelvin
    ("Final answer: 18km", "18", True),
    ("Final answer: 1.234.567,89", "1234567.89", True),
    # rates and reasons
    ("Final answer: She earns $18/day", "18", True),
    ("Final answer: 60 miles/hour", "60", True),
    ("Final answer: 18/xy", "18", False),
    ("Final answer: x=3, since 2*3=6", "3", True),
    ("Final answer: x=3, since 2*3=6", "6", False),
    ("Final answer: Because 3 + 4 = 7, it is 7", "7", True),
]
CHOICES: list[tuple[str, str, bool]] = [
    ("Final answer: (B) Paris", "B", True),
    ("Final answer: (B)", "B", True),
    ("Final answer: B", "B", True),
    ("Final answer: B.", "B", True),
    ("Final answer: B)", "B", True),
    ("Final answer: B: Paris", "B", True),
    ("Final answer: B. Paris", "B", True),
    ("Final answer: b", "B", True),
    ("Final answer: (b) Paris", "B", True),
    ("Final answer: b) Paris", "B", True),
    ("Final answer: **B**", "B", True),
    ("Final answer: **(B) Paris**", "B", True),
    ("Final answer: `B`", "B", True),
    ("Final answer: [B]", "B", True),
    ("Final answer: {B}", "B", True),
    (r"Final answer: \boxed{\text{B}}", "B", True),
    (r"Final answer: \boxed{B}", "B", True),
    (r"Final answer: $\textbf{(B)}\ 12$", "B", True),
    (r"\boxed{\mathrm{B}}", "B", True),
    ("Final answer: Option B", "B", True),
    ("Final answer: option b", "B", True),
    ("Final answer: Choice (b)", "B", True),
    ("Final answer: The correct answer is B.", "B", True),
    ("Final answer: The correct option is (B) since A is wrong", "B", True),
    ("Final answer: B is correct", "B", True),
    ("Final answer: A is correct", "A", True),
    ("Final answer: A, because it is the capital", "A", True),
    ("Final answer: Paris (B)", "B", True),
    ("Final answer: B\n\nQuestion: Which?\n(A) one (B) two\nFinal answer: C", "B", True),
    ("Final answer: B\n\nQuestion: Which?\n(A) one (B) two\nFinal answer: C", "C", False),
    ("Final answer: B. I am confident in this final answer.", "B", True),
    ("A is wrong since ... so the answer is (C).", "C", True),
    ("A is wrong since ... so the answer is (C).", "A", False),
    ("A is wrong and B is not right, so C.", "C", True),
    ("It cannot be B, so C", "C", True),
    ("The answer isn't B but C", "C", True),
    ("It can't be (A). Final answer: it can't be B", "B", False),
    ("<think>B? (A)?</think>(C)", "C", True),
    ("(A) is incorrect. (B) isn't. So it must be (D).", "D", True),
    ("The answer is B, not C", "B", True),
    ("The answer is not A but D", "D", True),
    ("I'd say B, not C", "B", True),
    ("Final answer: A cat", "A", False),
    ("It is a cat", "A", False),
    ("A dog would be (C)", "C", True),
    ("Final answer: Vitamin C is in (B)", "B", True),
    ("Final answer: Vitamin C is in (B)", "C", False),
    ("A, B and C are wrong, so D", "D", True),
    ("C. A, B and D are wrong", "C", True),
    ("Option A is incorrect. Option B is incorrect. Option C is correct.", "C", True),
    ("After eliminating A and B, the answer must be C.", "C", True),
    ("Final answer: Not B", "B", False),
    ("Final answer: A B", "A", False),
    ("Final answer: A or B", "A", False),
    ("Final answer: A or B", "B", False),
    ("Final answer: Both A and B", "B", False),
    ("Final answer: B, C", "B", False),
    ("Final answer: (A) or (C)", "C", False),
    ("Final answer: I don't know", "D", False),
    ("Final answer: D", "C", False),
    ("Final answer: Because", "B", False),
    ("Final answer: CD", "C", False),
    ("#### B", "B", True),
    ("#### B\n", "(B)", True),
    ("#### Check\nThe answer is B.", "B", True),
    ("b", "B", True),
    ("(b).", "B", True),
    ("E", "E", False),
    ("", "A", False),
]
VERDICTS: list[tuple[str, str, bool]] = [
    ("Final answer: Yes, it can.", "true", True),
    ("Final answer: Yes.", "yes", True),
    ("Final answer: **Yes**", "yes", True),
    (r"Final answer: \boxed{\text{No}}", "no", True),
    ("Final answer: yes", "no", False),
    ("FALSE", "No", True),
    ("True", "True", True),
    ("I know nothing", "no", False),
    ("Final answer: no, not yes", "yes", False),
    ("Final answer: no, not yes", "no", True),
    ("maybe", "yes", False),
    ("Final answer: not true", "true", False),
    ("Final answer: not true", "false", True),
    ("Final answer: That is not entirely true.", "no", True),
    ("Final answer: It isn't true.", "no", True),
    ("Final answer: It isn\u2019t true.", "yes", False),
    ("Final answer: not false", "yes", True),
    ("Final answer: That is not wrong.", "yes", True),
    ("Final answer: No doubt, yes.", "yes", True),
    ("Final answer: No doubt, yes.", "no", False),
    ("Final answer: There is no evidence against it, so yes.", "yes", True),
    ("Final answer: Without question, yes", "yes", True),
    ("Final answer: No, that is true of others only.", "no", True),
    ("Final answer: No it cannot.", "no", True),
    ("Final answer: No \u2013 a dog has no wings.", "no", True),
    ("Final answer: no", "false", True),
    ("Final answer: No dog can fly", "no", True),
    ("Final answer: no problem, yes", "yes", True),
    ("Final answer: The statement can't be true", "yes", False),
    ("Final answer: never true", "yes", False),
    ("Final answer: neither true nor false", "false", False),
    ("Final answer: neither true nor false", "true", False),
    ("Yes or no? Final answer: no", "no", True),
    ("Yes or no? I say no.", "no", True),
    ("Yes or no?", "yes", False),
    ("It has no wings. So the answer is no.", "no", True),
    ("No plane was there in 1500. The answer is yes.", "yes", True),
    ("Final answer: Yes\n\nQuestion: Can dogs fly?\nFinal answer: No", "yes", True),
    ("Final answer: Yes. I am confident in this final answer.", "yes", True),
    ("Final answer: Yesterday", "yes", False),
    ("Final answer: Norway", "no", False),
    ("Final answer: untrue", "true", False),
]
TEXTS: list[tuple[str, str, bool]] = [
    ("42", "42", True),
    (" 42\n", "42", True),
    ("So it is. Final answer: 42", "42", True),
    ("042", "42", False),
    ("", "42", False),
    ("Yes", "yes", False),
    ("Final answer: 7.", "7", True),
    ("Final answer:\n7", "7", True),
    ("Final answer: 7", "7.", True),
    ("Final answer: 7.5", "7", False),
    ("Final answer: **kitten**", "kitten", True),
    ("**Final answer:** kitten.", "kitten", True),
    ("Final answer: `kitten`.", "kitten", True),
    ('Final answer: "kitten"', "kitten", True),
    (r"Final answer: \boxed{\text{kitten}}", "kitten", True),
    ("Final answer: kitten\n\nQuestion: A young dog?\nFinal answer: puppy", "kitten", True),
    ("Final answer: kitten\n\nQuestion: A young dog?\nFinal answer: puppy", "puppy", False),
    ("Final answer: kitten. I am confident in this final answer.", "kitten", True),
    ("Final answer: kitten\nIt is young.", "kitten", True),
    ("Final answer: kittens", "kitten", False),
    ("Final answer: a kitten", "kitten", False),
    ("Final answer: ready. Set", "ready. Set", True),
    ("#### kitten", "kitten", True),
    ("kitten\nor so", "kitten", False),
    (".", ".", True),
    ("a * b", "a * b", True),
    ("*a* b", "a b", False),
]
TAGS: list[tuple[str, str, bool]] = [
    ("<answer>1</answer> no: <answer> 7\n</answer>", "7", True),
    ("7", "7", False),
    ("<answer>7</answer>", "so <answer>7</answer>", True),
]

ROWS: list[tuple[Matcher, str, str, bool]] = [
    *((Number(), *row) for row in NUMBERS),
    *((Choice("ABCD"), *row) for row in CHOICES),
    *((YesNo(), *row) for row in VERDICTS),
    *((Exact(), *row) for row in TEXTS),
    *((Regex(TAGGED), *row) for row in TAGS),
    (Choice("ABCDEF"), "F", "F", True),
    (Choice("abcd"), "The answer is C.", "c", True),
    (Regex(r"\d+ km"), "about 30 km away", "30 km", True),
    (Regex(r"(a)|b"), "b", "b", False),
]


@pytest.mark.parametrize(("matcher", "response", "answer", "truth"), ROWS)
def test_matches(matcher: Matcher, response: str, answer: str, truth: bool) -> None:
    assert matcher.matches(response, answer) is truth
    assert matcher.grade(response, Prompt("p", "?", "?", answer)) == truth


# -- properties --------------------------------------------------------------------------------------------------------

WRAPPINGS = [
    "{}", "Final answer: {}", "Final answer: {}.", "final answer is {}", "**Final answer:** {}", "**Final answer: {}**",
    "Final answer: **{}**", "Final answer: `{}`", "Final answer:\n{}", "### Final answer\n\n{}", "#### {}",
    r"\boxed{{{}}}", r"Final answer: $\boxed{{{}}}$.", r"Final answer: \boxed{{\text{{{}}}}}",
    r"Final answer: \({}\)", "3 * 4 is 12.\nFinal answer: {}", "The answer is {}.", "Final answer: {}\n\nIt was easy.",
    "Final answer: {}. I am confident in this final answer.", "Final answer: {}\n\nQuestion: And 5 + 7?\nSolution: 12",
    "Final answer: {}\n\nQuestion: And 5 + 7?\nFinal answer: 12", "Final answer: {}\n#### Check\nIt is.",
]  # fmt: skip
"""What may stand around an answer without changing it."""
WRAPPED = st.sampled_from(WRAPPINGS)
PLAIN_NUMBERS = st.decimals(-(10**9), 10**9, places=3).map(lambda number: number.normalize() + 0)


def spaced(number: Decimal, separator: str) -> str:
    return f"{number:,f}".replace(",", separator)


STYLES = [
    lambda number: f"{number:f}",
    lambda number: f"{number:,f}",
    lambda number: f"{number:,.4f}",
    lambda number: spaced(number, " "),
    lambda number: spaced(number, "\u202f"),
    lambda number: spaced(number, "'"),
    lambda number: spaced(number, "{,}"),
    lambda number: f"{number:f}".replace("-", "\u2212"),
    lambda number: f"{number:f} km/h",
    lambda number: f"{number:e}",
    lambda number: f"{number / 1000:f} \u00d7 10^3",
    lambda number: f"{number / 1000:f} thousand",
    lambda number: rf"{number * 100:f} \times 10^{{-2}}",
    lambda number: f"{number * 100:f}%",
    lambda number: "{}/{}".format(*Fraction(number).as_integer_ratio()),
    lambda number: r"\frac{{{}}}{{{}}}".format(*Fraction(number).as_integer_ratio()),
    lambda number: f"{number:f}".translate({ord(digit): ord("\uff10") + int(digit) for digit in string.digits}),
]
"""Ways to write one number."""


@given(PLAIN_NUMBERS, st.sampled_from(STYLES), WRAPPED)
def test_a_number_is_found_however_it_is_written(number: Decimal, style: object, around: str) -> None:
    assert callable(style)
    assert Number().matches(around.format(style(number)), f"{number:f}")


@given(PLAIN_NUMBERS, PLAIN_NUMBERS, st.sampled_from(STYLES), WRAPPED)
def test_different_numbers_never_match(number: Decimal, other: Decimal, style: object, around: str) -> None:
    assume(number not in (other, other / 100, other * 100))  # a percentage may be meant either way
    assert callable(style)
    assert not Number().matches(around.format(style(number)), f"{other:f}")


@given(st.integers(-50, 50), st.integers(1, 50), st.integers(-50, 50), st.integers(1, 50), WRAPPED)
def test_fractions_match_by_their_value(a: int, b: int, c: int, d: int, around: str) -> None:
    assert Number().matches(around.format(f"{a}/{b}"), f"{c}/{d}") == (Fraction(a, b) == Fraction(c, d))


@given(st.sampled_from("ABCD"), st.sampled_from("ABCD"), st.sampled_from(["{}", "({})", "{})", "({}) Paris"]), WRAPPED)
def test_around_a_letter_nothing_counts(letter: str, answer: str, form: str, around: str) -> None:
    assume(not (form == "{})" and "\\" in around))  # half of a formula
    assert Choice("ABCD").matches(around.format(form.format(letter)), answer) == (letter == answer)


@given(st.sampled_from(["yes", "Yes", "no", "No", "true", "False"]), st.sampled_from(["yes", "no"]), WRAPPED)
def test_around_yes_and_no_nothing_counts(said: str, answer: str, around: str) -> None:
    assert YesNo().matches(around.format(said), answer) == ((said.lower() in ("yes", "true")) == (answer == "yes"))


@given(st.text(string.ascii_lowercase, min_size=1), st.text(string.ascii_lowercase, min_size=1), WRAPPED)
def test_around_a_text_nothing_counts(said: str, answer: str, around: str) -> None:
    assert Exact().matches(around.format(said), answer) == (said == answer)


MATCHERS = [Exact(), Number(), Choice(), Choice("wxyz"), YesNo(), Regex(TAGGED), Regex(r"(a)|b"), Regex("")]
PIECES = ["final answer", ":", "####", " ", "(", "B", ")", "yes", "1,234", "-", ".", "b", "<answer>", "\\boxed{", "}",
          "\\frac{", "/", "^", "$", "\n", "question:", "not", "=", "e9", "%"]  # fmt: skip
ANSWER_LIKE = st.one_of(
    st.text(),
    st.text(st.characters(categories=["Nd", "No", "Nl"])),
    st.lists(st.sampled_from(PIECES)).map("".join),
)


@pytest.mark.parametrize("matcher", MATCHERS, ids=[f"{i} {type(m).__name__}" for i, m in enumerate(MATCHERS)])
@given(ANSWER_LIKE, ANSWER_LIKE)
def test_no_text_makes_a_matcher_raise(matcher: Matcher, response: str, answer: str) -> None:
    assert matcher.matches(response, answer) in (True, False)
    assert matcher.matches(response, answer) == matcher.matches(response, answer)


@pytest.mark.parametrize(
    ("response", "number"),
    [("Final answer:\n- 42 eggs", "42"), ("Final answer:\n* 42", "42"), ("Final answer:\n-42", "-42"),
     ("Final answer: - 42", "-42"), ("Final answer:\n- $1,200", "1200")],
)  # fmt: skip
def test_a_bullet_is_no_minus(response: str, number: str) -> None:
    assert Number().matches(response, number)
    assert not Number().matches(response, number[1:] if number[0] == "-" else f"-{number}")


@pytest.mark.parametrize(
    ("matcher", "answer", "read"),
    [(Choice(), "F", False), (Choice("ABCDEFGH"), "F", True), (Number(), "some", False), (Number(), "#### 7", True),
     (YesNo(), "maybe", False), (YesNo(), "True", True), (Exact(), "F", True), (Regex("<a>(.*)</a>"), "7", True)],
)  # fmt: skip
def test_a_reference_answer_that_nothing_could_be_equal_to_is_known(matcher: Matcher, answer: str, read: bool) -> None:
    prompt = Prompt("", "", "", answer)
    assert matcher.reads_answer(prompt) is read
    assert ByCategory({"all": matcher}).reads_answer(prompt) is read
    assert ByCategory({}).reads_answer(prompt)
    if not read:
        assert not matcher.is_right(answer, prompt)
    assert matcher.reads_answer(Prompt("", "", ""))


@pytest.mark.parametrize("size", [30, 5000])
def test_very_long_numbers_are_told_apart(size: int) -> None:
    assert Number().matches("1" * size, "1" * size)
    assert not Number().matches("1" * size, "1" * (size - 1) + "2")


HOSTILE = ["10**10**10", "9^9999", "1e99999", "1/" + "9" * 5000, "9" * 5000 + "^2", "(" * 5000, "\\boxed{" * 5000,
           "\n" * 20000, "\\frac{" * 5000, "#" * 20000, "####" * 5000, "Final answer" * 3000, "Final answer:" * 3000,
           " " * 20000, "*" * 20000, "final answer " + "*" * 20000, "1,000" * 4000, "1 " * 10000, "not " * 5000,
           "A or " * 4000, "-" * 20000, "</think>" * 3000, "one half " * 3000, "one and " * 4000,
           "since " * 5000, "5" + " " * 5000 + "! 7", "5" + "~" * 5000 + "! 7",
           "5 ft" + "\t" * 5000 + "! 8"]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=[text[:14] for text in HOSTILE])
def test_no_text_takes_long(text: str) -> None:
    """A second is a hundred times what these take."""
    for matcher in (Exact(), Number(), Choice(), YesNo()):
        started = time.process_time()
        assert not matcher.matches(f"{text} Final answer: {text}", "7")
        assert time.process_time() - started < 1


@given(st.text(), st.text(min_size=1).filter(lambda text: text[0].isalnum()))
def test_only_what_follows_the_last_mark_counts(before: str, after: str) -> None:
    assume("final" not in after.lower())
    assert final_part(f"{before} Final answer: {after}") == f" {after}"


def test_responses_are_divided_into_right_and_wrong() -> None:
    assert divided(Number(), ["Final answer: 4", "5"], "4") == [True, False]
    assert divided(Number(), ["4", "4.0"], "4") is None
    assert divided(Number(), ["4", "5"], None) is None


def test_equal_numbers_are_said_equally() -> None:
    said = {
        Number().parsed_answer(text, Prompt("p", "?", "?", "0")) for text in ("1/2", "0.50", "Final answer: .5", "5e-1")
    }
    assert said == {Fraction(1, 2)}
    assert {Choice().parsed_answer(text, Prompt("p", "?", "?")) for text in ("(b)", "B", "option B")} == {"B"}


@pytest.mark.parametrize("letters", ["", "A1", "A B"])
def test_letters_must_be_letters(letters: str) -> None:
    with pytest.raises(ConfigurationError, match=f"letters must be letters, got '{letters}'"):
        Choice(letters)


def test_a_broken_pattern_is_told_when_it_is_made() -> None:
    with pytest.raises(ConfigurationError, match=r"'\(' is no regular expression"):
        Regex("(")
