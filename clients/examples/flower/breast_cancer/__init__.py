"""A Flower app on scikit-learn's breast_cancer, with updates that nobody sees."""
