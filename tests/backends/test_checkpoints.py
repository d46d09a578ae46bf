"""Where recurrent states are kept: how far a way back may be, for sequences that grow, part and grow again."""

import random

import pytest

from edgellm.backends import checkpoints
from edgellm.backends.checkpoints import BEFORE_END, EVERY, Checkpoints


class Sequence:
    """Grows as a session does; the state kept at n is the tokens up to n, so that a wrong one shows."""

    def __init__(self, most: int) -> None:
        self.kept: Checkpoints[tuple[int, ...]] = Checkpoints(most)
        self.most, self.tokens, self.evaluated = most, list[int](), 0

    def append(self, tokens: list[int], n_batch: int = 512, *, turn: bool) -> None:
        start = len(self.tokens)
        stops = []
        for stop, keep in self.kept.pieces(start, start + len(tokens), n_batch, turn=turn):
            assert stop - len(self.tokens) <= n_batch
            self.tokens += tokens[len(self.tokens) - start : stop - start]
            stops.append(stop)
            if keep:
                self.kept.keep(len(self.tokens), tuple(self.tokens))
        assert len(self.tokens) == start + len(tokens) and stops == sorted(stops)
        self.evaluated += len(tokens)

    def answer(self, tokens: list[int]) -> None:
        for token in tokens:
            self.tokens.append(token)
            if self.kept.due(len(self.tokens)):
                self.kept.keep(len(self.tokens), tuple(self.tokens))

    def rewind(self, n: int) -> int:
        """Tokens evaluated again."""
        position = self.kept.nearest(n)
        assert position <= n
        if position:
            assert self.kept.state(position) == tuple(self.tokens[:position])
        self.kept.forget_beyond(position)
        again = self.tokens[position:n]
        del self.tokens[position:]
        self.append(again, turn=False)
        return n - position

    def check(self) -> None:
        positions = self.kept.positions
        assert len(positions) <= self.most and list(positions) == sorted(set(positions))
        assert not positions or 0 < positions[0] <= positions[-1] <= len(self.tokens)
        for position in positions:
            assert self.kept.state(position) == tuple(self.tokens[:position])
        assert self.kept.turn == 0 or self.kept.turn in positions


@pytest.mark.parametrize("most", [2, 3, 16])
def test_a_kept_state_is_always_that_of_the_tokens_before_it(most):
    rng = random.Random(most)
    for _ in range(20):
        one = Sequence(most)
        for _ in range(40):
            tokens = [rng.randrange(100) for _ in range(rng.choice((1, 5, 40, 300, 1500)))]
            match rng.randrange(4):
                case 0:
                    one.append(tokens, rng.choice((16, 64, 512)), turn=True)
                case 1:
                    one.append(tokens, rng.choice((16, 512)), turn=False)
                case 2:
                    one.answer(tokens)
                case 3:
                    one.rewind(rng.randint(0, len(one.tokens)))
            one.check()


@pytest.mark.parametrize("most", [3, 5, 16])
def test_a_chat_whose_thoughts_are_dropped_evaluates_few_tokens_again(most):
    """Each turn's history has the answer without its thoughts: it parts from the cache within the prompt's head."""
    one = Sequence(most)
    for turn in range(1, 30):
        one.append([turn] * 60, turn=True)
        kept = len(one.tokens)
        one.answer([turn] * 900)
        again = one.rewind(kept - 3)
        assert again <= BEFORE_END
        one.append([turn] * 80, turn=True)


def test_an_answer_drawn_anew_evaluates_the_prompts_head_again_and_no_more():
    one = Sequence(3)
    one.append([1] * 700, turn=True)
    for _ in range(20):
        one.answer([2] * 2000)
        assert one.rewind(699) <= BEFORE_END
        one.append([1], turn=True)
        assert len(one.tokens) == 700


def test_the_beginning_of_a_prompt_is_kept_for_another_one_in_its_place():
    one = Sequence(8)
    one.append([1] * 100, turn=True)
    one.answer([2] * 200)
    one.append([3] * 50, turn=True)
    assert 300 in one.kept.positions
    assert one.rewind(300) == 0


@pytest.mark.parametrize(("most", "ratio"), [(4, 4.0), (8, 1.0), (16, 0.3)])
def test_the_way_back_is_short_where_it_is_likely_and_never_long_for_what_is_far(most, ratio):
    one = Sequence(most)
    one.append([1] * 20_000, turn=True)
    end = len(one.tokens)
    for n in range(1, end):
        distance = n - one.kept.nearest(n)
        assert distance <= 512 + ratio * (end - n), n


def test_while_an_answer_grows_a_state_is_kept_every_so_often():
    one = Sequence(16)
    one.append([1] * 100, turn=True)
    one.answer([2] * 1000)
    assert one.kept.positions == (92, *(92 + EVERY * i for i in (1, 2, 3)))


def test_a_short_prompt_is_evaluated_in_one_piece():
    kept: Checkpoints[None] = Checkpoints(3)
    assert list(kept.pieces(0, 30, 512, turn=True)) == [(30, False)]
    assert list(kept.pieces(0, 100, 512, turn=True)) == [(92, True), (100, False)]
    assert list(kept.pieces(0, 1100, 512, turn=False)) == [(512, True), (1024, True), (1100, False)]


def test_the_memory_is_bounded_and_a_model_without_a_state_keeps_none():
    assert checkpoints.capacity(0) == 0
    assert checkpoints.capacity(1000) == 16
    for mib in (1, 19, 50, 85, 150, 1000):
        n = checkpoints.capacity(mib << 20)
        assert 3 <= n <= 16 and (n == 3 or n * mib <= 256)
    assert EVERY > BEFORE_END
