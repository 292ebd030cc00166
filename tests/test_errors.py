import pickle

from hicl.errors import FrameError, HiclError


def test_a_message_is_one_line_that_can_be_read():
    said = str(HiclError("a.ply: property \x1b[31mred\n is 'ä\u200d'; write int32"))
    assert said == "a.ply: property ?[31mred? is 'ä?'; write int32"
    assert str(HiclError("a.ply: empty file")) == "a.ply: empty file"


def test_what_a_library_quotes_is_cut_between_the_file_and_the_way_out():
    said = str(HiclError("a.txt: no number (" + 100_000 * "[" + "); write a matrix"))
    assert len(said) < 1100 and said.startswith("a.txt: no number ([") and said.endswith("[); write a matrix")


def test_it_travels_between_processes():
    for error in (HiclError(3000 * "a"), FrameError("b")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == str(error)
