//! Crate controller.
