import pytest

from ltx_trainer import errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ConfigError(""), 2),
        (errors.DatasetError(""), 2),
        (errors.MediaError(""), 2),
        (errors.GeometryError(""), 2),
        (errors.ModelError(""), 2),
        (errors.CheckpointError(""), 2),
        (errors.TrainingDiverged(""), 3),
        (errors.OutOfResources(""), 4),
        (errors.Interrupted(2), 130),
        (errors.Interrupted(15), 143),
        (ZeroDivisionError(), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_end_has_its_status(error: Exception, status: int) -> None:
    assert errors.exit_status_of(error) == status


def test_being_told_to_stop_is_no_error_that_a_library_may_catch() -> None:
    assert not issubclass(errors.Interrupted, Exception)
