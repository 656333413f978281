"""Search by validation error: Optuna proposes settings, and runs of a config judge them.

A trial is a run like any other, but evaluated on the validation set: the test set is measured for
the settings that were chosen, and for no others. What was tried stands in Optuna's own journal in
the runs directory, so a search goes on whenever it was interrupted.
"""

import contextlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from stn_jax.launch.expand import SELECTION, Choices, Range, Settings, as_settings
from stn_jax.launch.files import exclusive, update_json
from stn_jax.launch.sweep import Progress, Run, inspect, make_runs

JOURNAL = "search.journal"
LOCK = "search.lock"
CHOSEN = "chosen.json"
SPLIT = "data.evaluate_on"
VALIDATION = "validation"
SAMPLERS = ("tpe", "random")


@dataclass(frozen=True)
class Chosen:
    """What a search found.

    Attributes:
      trial: the run that had the lowest error.
      settings: of that run, but for the split that it was evaluated on.
      error: its validation error, in percent.
      count: of how many finished trials it is the best.
    """

    trial: Run
    settings: Settings
    error: float
    count: int


class Search:
    """The search for one run of a sweep: which values its fields are to have."""

    def __init__(
        self,
        config_file: str | Path,
        module: ModuleType,
        settings: Settings,
        runs_dir: Path,
        *,
        ranges: Mapping[str, Choices],
        overrides: Sequence[str] = (),
        sampler: str = "tpe",
        seed: int = 0,
    ):
        """Begin a search, or open the one of the same run.

        Args:
          config_file: the config file.
          module: what it has.
          settings: of the run, as its sweep declares them.
          runs_dir: the directory that holds the runs' directories.
          ranges: by field, what it may be.
          overrides: "--config.FIELD=VALUE" each, for all runs.
          sampler: "tpe" learns from what was tried; "random" does not.
          seed: of the sampler.

        Raises:
          ValueError: if the config cannot be evaluated on a validation set, or if what decides that
            is overridden.
          RuntimeError: if Optuna is missing.
        """
        if "evaluate_on" not in module.get_config(settings.get(SELECTION, "")).get("data", {}):
            raise ValueError(f"{config_file} has no {SPLIT}: its runs cannot be validated.")
        if any(text.startswith(f"--config.{SPLIT}=") for text in overrides) or SPLIT in settings:
            raise ValueError(f"a search sets {SPLIT} by itself.")
        self._place = (config_file, module)
        self._settings, self._runs_dir, self._overrides = settings, runs_dir, overrides
        self._ranges, self._sampler, self._seed = ranges, sampler, seed
        self.name = self._make_run({}).name
        runs_dir.mkdir(parents=True, exist_ok=True)
        self._study = _open_study(runs_dir / JOURNAL, self.name)

    def next_runs(self, count: int, *, at_once: int) -> list[Run]:
        """Return runs of trials whose end is not known, and of new ones.

        Args:
          count: of all trials, finished or not.
          at_once: how many runs there may be at a time.
        """
        import optuna

        running = self._trials(optuna.trial.TrialState.RUNNING)
        ends = {run.name: inspect(run) for run in map(self._run_of, running)}
        self.tell({name: end for name, end in ends.items() if end.state == "done"})
        spaces = {field: _distribution(choices) for field, choices in self._ranges.items()}
        with self._alone():
            trials = self._trials(optuna.trial.TrialState.RUNNING)
            known = len(self._trials())
            for number in range(known, min(count, known + at_once - len(trials))):
                # Of its own number, so that it does not count in how many calls trials were drawn.
                self._study.sampler = _make_sampler(self._sampler, 1000 * self._seed + number)
                trials.append(self._study.ask(spaces))
        return _distinct(map(self._run_of, trials))

    def known_runs(self) -> list[Run]:
        """Return the runs of all trials so far and, if none is open, that of the best of them."""
        import optuna

        runs = list(map(self._run_of, self._trials()))
        if self.has_found and not self._trials(optuna.trial.TrialState.RUNNING):
            runs.append(self.final_run())
        return _distinct(runs)

    def tell(self, states: Mapping[str, Progress]) -> None:
        """Tell Optuna what became of runs; those that neither are done nor failed stay open."""
        import optuna

        with self._alone():
            for trial in self._trials(optuna.trial.TrialState.RUNNING):
                progress = states.get(self._run_of(trial).name)
                if progress is None or progress.state not in ("done", "failed"):
                    continue
                if progress.state == "done" and progress.split == VALIDATION:
                    self._study.tell(trial.number, progress.error)
                else:
                    self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    def is_open(self, count: int) -> bool:
        """Tell whether trials are left: to be asked for, or to be trained."""
        import optuna

        settled = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL)
        return len(self._trials(*settled)) < count

    @property
    def has_found(self) -> bool:
        """Whether a trial came to its end."""
        import optuna

        return bool(self._trials(optuna.trial.TrialState.COMPLETE))

    def choose(self) -> Chosen:
        """Return the settings of the lowest validation error; the first of those that are equal.

        Raises:
          RuntimeError: if no trial came to its end.
        """
        import optuna

        trials = self._trials(optuna.trial.TrialState.COMPLETE)
        if not trials:
            raise RuntimeError(f"{self.name}: every trial failed.")
        best = min(trials, key=lambda trial: trial.value)
        settings = self._settings_of(best)
        trial = self._make_run(settings)
        del settings[SPLIT]
        return Chosen(trial, settings, best.value, len(trials))

    def final_run(self) -> Run:
        """Return the run that measures what was chosen on the test set."""
        return self._make_run(self.choose().settings)

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """Hold off other processes of the search, which would draw and tell the same trials."""
        return exclusive(self._runs_dir / LOCK)

    def _trials(self, *states: Any) -> list[Any]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _run_of(self, trial: Any) -> Run:
        return self._make_run(self._settings_of(trial))

    def _settings_of(self, trial: Any) -> Settings:
        """Return the settings of a trial.

        Raises:
          ValueError: if the config no longer declares them.
        """
        settings: Settings = {SPLIT: VALIDATION}
        for field, choices in self._ranges.items():
            value = trial.params.get(field)
            if isinstance(choices, Range) and choices.holds(value):
                settings[field] = choices.tidy(value)
            elif not isinstance(choices, Range) and value in (named := _by_text(choices)):
                settings[field] = named[value]
            else:
                raise ValueError(
                    f"{self._runs_dir / JOURNAL} has a trial with {field}={value}, which is not in "
                    f"what the config searches, {choices}: search in another runs directory."
                )
        return settings

    def _make_run(self, settings: Settings) -> Run:
        declared = [{**self._settings, **settings}]
        (run,) = make_runs(*self._place, declared, self._runs_dir, self._overrides)
        return run


def open_searches(
    config_file: str | Path, module: ModuleType, selection: str, runs_dir: Path, **options: Any
) -> list[Search]:
    """Return a search for each run of a sweep.

    Args:
      config_file: the config file; `search(selection)` of it gives the ranges.
      module: what it has.
      selection: the part of the sweep.
      runs_dir: as in `Search`.
      **options: as there.

    Raises:
      ValueError: if the config declares no ranges, and as in `Search`.
    """
    if not hasattr(module, "search"):
        raise ValueError(f"{config_file} declares no search(selection).")
    ranges = module.search(selection)
    return [
        Search(config_file, module, as_settings(item), runs_dir, ranges=ranges, **options)
        for item in module.sweep(selection)
    ]


def write_chosen(searches: Sequence[Search], runs_dir: Path) -> None:
    """Write what was chosen, by the name of the run that was searched for."""
    found = {search.name: search.choose() for search in searches}
    content = {
        name: {
            "settings": chosen.settings,
            "validation_error": chosen.error,
            "trial": chosen.trial.name,
            "of": chosen.count,
        }
        for name, chosen in found.items()
    }
    update_json(runs_dir / CHOSEN, content)


def _distinct(runs: Iterable[Run]) -> list[Run]:
    return list({run.name: run for run in runs}.values())


def _by_text(choices: Sequence[Any]) -> dict[str, Any]:
    """Return choices by what the journal calls them, in whatever order the config has them."""
    return {repr(choice): choice for choice in sorted(choices, key=repr)}


def _distribution(choices: Choices) -> Any:
    from optuna import distributions

    if not isinstance(choices, Range):
        return distributions.CategoricalDistribution([*_by_text(choices)])
    if choices.whole:
        return distributions.IntDistribution(int(choices.low), int(choices.high), log=choices.log)
    return distributions.FloatDistribution(choices.low, choices.high, log=choices.log)


def _make_sampler(name: str, seed: int) -> Any:
    import optuna

    kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    return kinds[name](seed=seed)


def _open_study(journal: Path, name: str) -> Any:
    try:
        import optuna
    except ImportError as error:
        raise RuntimeError('--search needs Optuna: pip install "stn-jax[cluster]".') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        backend = optuna.storages.journal.JournalFileBackend(str(journal))
        storage = optuna.storages.JournalStorage(backend)
    return optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
