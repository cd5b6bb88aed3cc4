"""The two stages of SoF-Net's training."""

from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmskip.registry import HOOKS


@HOOKS.register_module()
class WarmUpHook(Hook):
    """Train without policies first (SoF-Net, section 4.2).

    "Since a random policy at initial training steps would hinder the
    learning backbone network", all frames are forwarded and only the
    classification is learned for some epochs; then everything is trained.
    What applies follows from the epoch alone, so it survives a resume.

    Args:
        epochs: Of the first stage, 15 in the thesis.

    Raises:
        ValueError: ``epochs`` is not an int >= 0.
    """

    def __init__(self, epochs: int = 15) -> None:
        if not isinstance(epochs, int) or epochs < 0:
            raise ValueError(
                f'expected epochs to be an int >= 0, got {epochs}'
            )
        self.epochs = epochs

    def before_train(self, runner: Runner) -> None:
        """Check that the model and the loop fit.

        Raises:
            ValueError: The model knows no warm-up, the loop no epochs, or
                the distributed wrapper does not expect unused parameters.
        """
        check_epochs(self, runner)
        model = runner.model
        if (
            self.epochs
            and isinstance(model, MMDistributedDataParallel)
            and not model.find_unused_parameters
        ):
            raise ValueError(
                'expected find_unused_parameters=True in the config for '
                'distributed training with WarmUpHook, whose first stage '
                'does not use the policies; got False'
            )
        if not hasattr(_unwrap(model), 'warming_up'):
            raise ValueError(
                'expected a model with policies (mmskip.SoFRecognizer) for '
                f'WarmUpHook, got {type(_unwrap(model)).__name__}'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the model which stage it is in."""
        _unwrap(runner.model).warming_up = runner.epoch < self.epochs

    def after_train(self, runner: Runner) -> None:
        """Leave the model with its policies."""
        _unwrap(runner.model).warming_up = False


def check_epochs(hook: Hook, runner: Runner) -> None:
    """Refuse a loop that does not count epochs.

    Raises:
        ValueError: It does not.
    """
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        raise ValueError(
            f'expected an EpochBasedTrainLoop for {type(hook).__name__}, got '
            f'{type(runner.train_loop).__name__}; what it does is defined '
            'by epochs'
        )


def _unwrap(model):
    return model.module if is_model_wrapper(model) else model
