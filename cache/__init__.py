"""The contract between the pipeline, which writes scenes, and the trainer, which streams them. See SPEC.md."""
