//! The networks, each a plain function of builder, config and weights.
