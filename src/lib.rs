//! Frontgate: the reverse proxy in front of Lync, Skype for Business, Exchange and Office Web
//! Apps. See the README for what it does and `site` for what it works on.

#![warn(missing_docs)]
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod admin;
pub mod cli;
pub mod config;
pub mod events;
pub mod farm;
pub mod forward;
pub mod guard;
pub mod lab;
pub mod listen;
mod lock;
mod machine;
pub mod observe;
pub mod pin;
pub mod post;
pub mod proxy_protocol;
pub mod reason;
pub mod replaced;
pub mod route;
pub mod runtime;
pub mod site;
pub mod store;
