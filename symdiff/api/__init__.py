"""The only composer: everything users type, made of the stages below."""
