import pytest
import torch


@pytest.fixture(scope='module', autouse=True)
def _one_thread():
    """Thousands of tiny operators: threads would mostly wait for another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)
