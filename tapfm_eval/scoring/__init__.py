"""The whole analysis and report for predictions of anybody's model: files in, a folder like that of a run out."""
