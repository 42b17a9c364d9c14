"""A bit-faithful host model of FP16 on-device training on multi-core microcontrollers."""
