//! An address that stays while what is behind it comes and goes.

use std::{
    io::copy,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// Passes connections on, or ends them where nothing is behind it.
pub struct Relay {
    pub address: SocketAddr,
    to: Arc<Mutex<Option<SocketAddr>>>,
}

impl Relay {
    pub fn to(address: SocketAddr) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay =
            Self { address: socket.local_addr().unwrap(), to: Arc::new(Mutex::new(Some(address))) };
        let to = relay.to.clone();
        std::thread::spawn(move || {
            for client in socket.incoming().map_while(Result::ok) {
                let server = to.lock().unwrap().and_then(|to| TcpStream::connect(to).ok());
                if let Some(server) = server {
                    join(client, server);
                }
            }
        });
        relay
    }

    pub fn lead(&self, to: Option<SocketAddr>) {
        *self.to.lock().unwrap() = to;
    }
}

fn join(client: TcpStream, server: TcpStream) {
    let (mut from_client, mut from_server) =
        (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut to_client, mut to_server) = (client, server);
    std::thread::spawn(move || {
        let _ = copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let _ = copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
}
