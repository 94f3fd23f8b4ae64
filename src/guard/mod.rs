//! Hygiene of requests: what is let in at all, before anybody asks where it goes.
//!
//! Pure functions of bytes: [`head`] inspects a raw HTTP/1 header block, [`body`] finds the end of
//! a request body while it passes, [`h2`] gives the same guarantees for HTTP/2, and [`headers`]
//! knows the header fields with a meaning of their own, [`mod@client`] finds who the
//! client is behind trusted proxies.

pub mod body;
mod chars;
pub mod client;
mod fields;
pub mod forwarded;
pub mod h2;
pub mod head;
pub mod headers;
mod request_line;
mod target;

pub use body::BodyEnd;
pub use client::{Chain, Client, client};
pub use fields::Framing;
pub use h2::inspect_h2;
pub use head::{Head, HeadLimits, find_end, inspect, origin_form};
pub use headers::{is_connection_auth, is_stranger};
pub use request_line::Version;
