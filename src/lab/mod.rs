//! (module lab)
