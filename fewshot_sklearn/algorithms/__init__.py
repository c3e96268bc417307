"""The methods: one file each, a learner and its estimators."""
