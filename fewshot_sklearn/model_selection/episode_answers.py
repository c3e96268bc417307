"""What an estimator answers on many episodes.

Meta-trained estimators of this package answer many episodes in one call; any other
scikit-learn estimator is cloned and fitted episode by episode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.base import is_classifier

from ..estimators import (
    ManyTasks,
    adapts_in_batches,
    as_final_sees,
    for_new_classes,
    known_classes,
)
from ..learners import Gaussian, Outputs
from ..tasks import (
    IGNORED_CODE,
    UNLABELLED_CODE,
    EpisodeRows,
    as_they_are,
    indexable,
    number_targets,
    places,
    taken,
)
from .answers import Answers, joined_answers
from .fitted_answers import fitted_answers, plain_features

#: Parts that a support set is divided into to hold each out once: all rows, up to so many a class.
FOLDS = 5


class EpisodeAnswers:
    """Puts episodes made of given rows to an estimator.

    Parameters
    ----------
    estimator : estimator
        Any scikit-learn classifier or regressor; it is never fitted itself.
    X : array-like or DataFrame of shape (n_rows, ...)
        Rows.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Labels or targets.
    n_jobs : int or None, default=None
        Processes for the episode-by-episode loop.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, n_jobs: int | None = None):
        self.n_jobs, self.classifies = n_jobs, is_classifier(estimator)
        self.batched = adapts_in_batches(estimator)
        self.estimator, X = as_final_sees(estimator, X) if self.batched else (estimator, X)
        self.X, self.y = indexable(X), as_they_are(y) if self.classifies else number_targets(y)
        if self.batched:
            n_outputs = None if self.classifies else self._targets.shape[1]
            self._many = self._many_new = ManyTasks(self.estimator, X, n_outputs)
            #: Classes that the meta-init knows, and which of them each row is of, if any.
            self.known = known_classes(self.estimator) if self.classifies else None
            self._place = None if self.known is None else places(self.known, self.y)
            if self._place is not None and (self._place < 0).any():
                self._many_new = ManyTasks(for_new_classes(self.estimator), X, n_outputs)

    def knows(self, rows: EpisodeRows) -> np.ndarray:
        """Episodes (n_episodes,) all of whose labels are known classes, which their codes are of.

        Parameters
        ----------
        rows : EpisodeRows
            Many episodes.

        Returns
        -------
        ndarray of bool of shape (n_episodes,)
            Which they are.
        """
        if self._place is None:
            return np.zeros(len(rows.support), bool)
        told = rows.support >= 0
        if rows.support_codes is not None:
            told &= rows.support_codes >= 0
        return ((self._place[rows.support] >= 0) | ~told).all(1)

    @property
    def _targets(self) -> np.ndarray:
        return self.y.reshape(len(self.y), -1)

    # ------------------------------------------------------------------ the two questions
    def about_queries(self, rows: EpisodeRows) -> Answers:
        """Outputs for the queries of each episode, fitted on its support.

        Parameters
        ----------
        rows : EpisodeRows
            Many episodes.

        Returns
        -------
        Answers
            Their queries, one episode after the other.
        """
        rows = self.coded(rows)
        return self._about(rows, rows.support >= 0, rows.query >= 0)

    def about_held_out_support(self, rows: EpisodeRows) -> Answers:
        """Outputs for support rows, each fitted on the support without it and a few others.

        Cross-validation of five folds by place within the class (the task, for
        regression), which is leave-one-out up to five rows. A class of a single row
        is never held out.

        Parameters
        ----------
        rows : EpisodeRows
            Many episodes.

        Returns
        -------
        Answers
            The rows that were held out.
        """
        rows = self.coded(rows)
        folds, real = support_folds(rows), rows.support >= 0
        about_itself = rows._replace(query=rows.support, query_codes=rows.support_codes)
        return joined_answers(
            [
                self._about(about_itself, real & (folds != fold), folds == fold)
                for fold in range(folds.max(initial=-1) + 1)
            ]
        )

    def features(self, used: np.ndarray | None = None) -> np.ndarray | None:
        """Features (n_rows, n_features) of rows: embeddings, or plain numbers as they are.

        Parameters
        ----------
        used : ndarray of int or None, default=None
            Row numbers; None takes all.

        Returns
        -------
        ndarray or None
            None where rows are not numbers.
        """
        used = np.arange(len(self.y)) if used is None else used
        if self.batched:
            return self._many.features(used)[torch.from_numpy(used)].cpu().double().numpy()
        return plain_features(taken(self.X, used))

    def coded(self, rows: EpisodeRows) -> EpisodeRows:
        """Give whole groups class codes: those of their support's labels.

        Parameters
        ----------
        rows : EpisodeRows
            Many episodes.

        Returns
        -------
        EpisodeRows
            The same with codes, where they are of classification and had none; of episodes
            of known classes, those among these.
        """
        if not self.classifies:
            return rows
        return self._coded_as_known(self._coded(rows)) if self.batched else self._coded(rows)

    def _coded_as_known(self, rows: EpisodeRows) -> EpisodeRows:
        known = self.knows(rows)[:, None]
        if not known.any():
            return rows
        place, codes, asked = self._place, rows.support_codes, rows.query_codes
        assert place is not None and codes is not None and asked is not None
        support = np.where(known & (codes >= 0), place[rows.support], codes)
        query = np.where(known & (rows.query >= 0), place[rows.query], asked)
        return rows._replace(support_codes=support, query_codes=query)

    def _coded(self, rows: EpisodeRows) -> EpisodeRows:
        if rows.support_codes is not None:
            return rows
        support = np.full(rows.support.shape, IGNORED_CODE)
        query = np.full(rows.query.shape, IGNORED_CODE)
        for i in range(len(support)):
            known, asked = rows.support[i] >= 0, rows.query[i] >= 0
            classes, codes = np.unique(self.y[rows.support[i][known]], return_inverse=True)
            labels = self.y[rows.query[i][asked]]
            if not len(classes):  # nothing is known of their order
                query[i, asked] = UNLABELLED_CODE
                continue
            place = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
            support[i, known] = codes
            query[i, asked] = np.where(classes[place] == labels, place, UNLABELLED_CODE)
        return rows._replace(support_codes=support, query_codes=query)

    # ------------------------------------------------------------------ many at once
    def outputs(
        self,
        rows: EpisodeRows,
        kept: np.ndarray | None = None,
        asked: np.ndarray | None = None,
    ) -> Iterator[tuple[np.ndarray, Outputs]]:
        """What the learner says of the queries of many episodes, a batch of episodes at a time.

        Parameters
        ----------
        rows : EpisodeRows
            Many episodes, as `coded` returns them.
        kept : ndarray of bool of shape (n_episodes, n_support) or None, default=None
            Support rows that weigh anything; None is all.
        asked : ndarray of bool of shape (n_episodes, n_query) or None, default=None
            Queries that a learner answers together, if it does; None is all.

        Yields
        ------
        which : ndarray of int of shape (T,)
            Numbers of the episodes.
        outputs : Tensor or Gaussian
            Outputs (T, n_query, ...), padded to the longest of these.
        """
        known = self.knows(rows) if self.classifies else np.zeros(len(rows.support), bool)
        codes = rows.support_codes
        if codes is not None and not (known | (codes >= 0).any(1)).all():
            raise ValueError(
                "Without a labelled row nothing is known of classes that are new in every task: of "
                "0 labels only a classifier answers whose meta-init knows the classes (see classes "
                "of MetaTrainer)."
            )
        for many, those in ((self._many, known), (self._many_new, ~known)):
            if those.any():
                yield from self._outputs(many, rows, kept, asked, np.flatnonzero(those), known)

    def _outputs(
        self,
        many: ManyTasks,
        rows: EpisodeRows,
        kept: np.ndarray | None,
        asked: np.ndarray | None,
        those: np.ndarray,
        knows: np.ndarray,
    ) -> Iterator[tuple[np.ndarray, Outputs]]:
        """`outputs` of some of the episodes, by the learner that is for them."""
        codes = rows.support_codes
        if many.by_features:  # each row once, however many episodes it is in
            used = np.unique(np.concatenate([rows.support[those], rows.query[those]], 1))
            many.features(used[used >= 0])
        n_support, n_query = ((part >= 0).sum(1) for part in (rows.support, rows.query))
        ways = np.zeros(len(rows.support), int) if codes is None else codes.max(1) + 1
        if self.known is not None:
            ways = np.where(knows, len(self.known), ways)
        batches = many.batches(ways[those], n_support[those], n_query[those])
        for which in (those[some] for some in batches):
            known = slice(0, max(1, n_support[which].max()))
            support = rows.support[which, known]
            real = support >= 0
            if codes is None:
                target = many.targets(self._targets[support] * real[..., None], None)
            else:
                target = many.targets(codes[which, known], int(ways[which[0]]))
            w = many.tensor(real if kept is None else kept[which, known])
            queries = rows.query[which, : n_query[which].max()]
            real = queries >= 0 if asked is None else asked[which, : queries.shape[1]]
            told = many.episodes(many.rows(support), target, w, many.rows(queries), real)
            yield which, told

    def _about(self, rows: EpisodeRows, kept: np.ndarray, asked: np.ndarray) -> Answers:
        """Outputs for the queries `asked`, fitted on the support rows `kept`."""
        if not self.batched:
            return self._one_by_one(rows, kept, asked)
        codes, n = rows.support_codes, int(asked.sum())
        width = self._targets.shape[1] if codes is None else codes.max(initial=0) + 1
        if codes is not None and self.known is not None:
            width = max(width, len(self.known))
        outputs, std = np.full((n, width), -np.inf), None
        place = (np.cumsum(asked) - 1).reshape(asked.shape)
        for which, told in self.outputs(rows, kept, asked):
            if isinstance(told, Gaussian):
                std = np.empty((n, width)) if std is None else std
                deviations, told = told.variance.sqrt().cpu().double().numpy(), told.mean
            own = asked[which, : told.shape[1]]
            to = place[which, : told.shape[1]][own]
            outputs[to, : told.shape[2]] = told.cpu().double().numpy()[own]
            if std is not None:
                std[to] = deviations[own]
        if rows.query_codes is None:
            truth = self._targets[rows.query[asked]].astype(np.float64)
        else:
            truth = rows.query_codes[asked]
        return Answers(outputs, std, truth, np.nonzero(asked)[0], rows.query[asked])

    # ------------------------------------------------------------------ one by one
    def _one_by_one(self, rows: EpisodeRows, kept: np.ndarray, asked: np.ndarray) -> Answers:
        chosen = np.flatnonzero(asked.any(1))
        jobs = (
            (
                *_chosen(rows.support[i], rows.support_codes, i, kept[i]),
                *_chosen(rows.query[i], rows.query_codes, i, asked[i]),
            )
            for i in chosen.tolist()
        )
        done = Parallel(n_jobs=self.n_jobs)(
            delayed(fitted_answers)(self.estimator, self.X, self.y, *job) for job in jobs
        )
        return joined_answers(
            [a._replace(episode=a.episode + i) for i, a in zip(chosen, done, strict=True)]
        )


def _chosen(
    rows: np.ndarray, codes: np.ndarray | None, i: int, which: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    return rows[which], None if codes is None else codes[i][which]


def support_folds(rows: EpisodeRows) -> np.ndarray:
    """Which fold holds each support row out (n_episodes, n_support); -1 where none does."""
    real = rows.support >= 0
    codes = np.where(real, 0, IGNORED_CODE) if rows.support_codes is None else rows.support_codes
    folds = np.full(rows.support.shape, -1)
    for code in range(codes.max(initial=-1) + 1):
        own = real & (codes == code)
        several = own & (own.sum(1, keepdims=True) > 1)
        folds = np.where(several, (own.cumsum(1) - 1) % FOLDS, folds)
    return folds
