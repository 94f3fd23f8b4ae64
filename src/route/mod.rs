//! (module route)
