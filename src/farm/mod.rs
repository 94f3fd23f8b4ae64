//! (module farm)
