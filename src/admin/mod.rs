//! The admin side: for now the health endpoints. It listens on loopback or a Unix socket, apart
//! from traffic.

mod client;
mod health;
mod server;

pub use client::get;
pub use server::{Running, start};
