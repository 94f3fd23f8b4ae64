//! (module listen)
