//! (module guard)
