"""An encoder as other libraries store it: timm, Hugging Face, OpenMMLab, and graphs of torch."""
