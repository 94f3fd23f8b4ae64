//! (module forward)
