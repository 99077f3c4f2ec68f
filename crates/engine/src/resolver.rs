//! Each container's name server: what its networks know is answered here, the rest is asked elsewhere.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use network::{
    Handle as Namespace,
    names::{self, Names, Outcome},
    resolver::Door,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    Attachment, Container, Engine, Network,
    error::{Error, Result},
    etc, locked,
    networks::DEFAULT,
};

/// What others may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Questions of one container that others are asked at once.
const MOST: usize = 128;
/// Connections of one container that are served at once, and how long one may be silent.
const CONNECTIONS: usize = 32;
const SILENCE: Duration = Duration::from_secs(10);
const DNS: u16 = 53;

/// A container's name server; it ends with this.
#[derive(Debug)]
pub(crate) struct Resolver {
    own: Arc<Own>,
    tasks: [JoinHandle<()>; 2],
}

/// What one container's server knows.
#[derive(Debug)]
struct Own {
    /// The networks that it is in, id and name; and whether one of them leads outside.
    networks: Mutex<(Vec<(String, String)>, bool)>,
    servers: Vec<SocketAddr>,
    asking: Semaphore,
    connections: Arc<Semaphore>,
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The names of a container's place in a network, the most telling first. On the network `bridge` there are none.
fn names_of(container: &Container, place: &Attachment) -> Vec<String> {
    if place.name == DEFAULT {
        return Vec::new();
    }
    let mut names = vec![container.name.clone()];
    names.extend(place.wish.aliases.iter().cloned());
    names.push(container.id[..12].to_owned());
    if !container.config.hostname.is_empty() {
        names.push(container.config.hostname.clone());
    }
    names
}

impl Engine {
    /// Makes a place in a network known by its names.
    pub(crate) fn enter_names(&self, container: &Container, place: &Attachment) {
        let names = names_of(container, place);
        if names.is_empty() {
            return;
        }
        let mut all = locked(&self.0.networks.names);
        let of_network = all.entry(place.network.clone()).or_default();
        for net in &place.endpoint.addresses {
            of_network.remove(net.addr());
            of_network.add(net.addr(), &names);
        }
    }

    pub(crate) fn forget_names(&self, place: &Attachment) {
        let mut all = locked(&self.0.networks.names);
        if let Some(of_network) = all.get_mut(&place.network) {
            place.endpoint.addresses.iter().for_each(|net| of_network.remove(net.addr()));
        }
    }

    /// Serves names in a container's namespace, if one of its networks has any.
    pub(crate) fn serve_names(
        &self,
        container: &Container,
        places: &[Attachment],
        inside: &Namespace,
    ) -> Result<()> {
        if !needs_names(places) {
            return Ok(());
        }
        let door = Door::open(inside)?;
        let failed = |error: io::Error| Error::internal(format!("serve names: {error}"));
        let (udp, tcp) = (UdpSocket::from_std(door.udp).map_err(failed)?, TcpListener::from_std(door.tcp));
        let own = Arc::new(Own {
            networks: Mutex::default(),
            servers: etc::upstream(container).into_iter().map(|server| (server, DNS).into()).collect(),
            asking: Semaphore::new(MOST),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
        });
        let tasks = [
            tokio::spawn(datagrams(self.clone(), own.clone(), Arc::new(udp))),
            tokio::spawn(connections(self.clone(), own.clone(), tcp.map_err(failed)?)),
        ];
        locked(&self.0.networks.resolvers).insert(container.id.clone(), Resolver { own, tasks });
        self.tell_resolver(&container.id, places);
        Ok(())
    }

    /// Whether a container has a server yet.
    pub(crate) fn has_resolver(&self, container: &str) -> bool {
        locked(&self.0.networks.resolvers).contains_key(container)
    }

    /// Tells a container's server which networks it is in.
    pub(crate) fn tell_resolver(&self, container: &str, places: &[Attachment]) {
        let known: Vec<Arc<Network>> =
            places.iter().filter_map(|place| self.0.networks.find(&place.network).ok()).collect();
        let leads_out =
            known.iter().any(|network| network.bridge.as_ref().is_some_and(|bridge| !bridge.internal));
        let list = known.iter().map(|network| (network.id.clone(), network.name.clone())).collect();
        if let Some(resolver) = locked(&self.0.networks.resolvers).get(container) {
            *locked(&resolver.own.networks) = (list, leads_out);
        }
    }

    pub(crate) fn end_resolver(&self, container: &str) {
        locked(&self.0.networks.resolvers).remove(container);
    }

    fn answer(&self, own: &Own, query: &[u8], datagram: bool) -> Outcome {
        let networks = locked(&own.networks).0.clone();
        let all = locked(&self.0.networks.names);
        let known: Vec<(&str, &Names)> =
            networks.iter().filter_map(|(id, name)| Some((name.as_str(), all.get(id)?))).collect();
        names::answer(query, &known, datagram)
    }
}

pub(crate) fn needs_names(places: &[Attachment]) -> bool {
    places.iter().any(|place| place.name != DEFAULT)
}

async fn datagrams(engine: Engine, own: Arc<Own>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let query = &buffer[..length];
        match engine.answer(&own, query, true) {
            Outcome::Answer(answer) => drop(socket.send_to(&answer, from).await),
            Outcome::Nothing => {}
            Outcome::Unknown => {
                let (own, socket, query) = (own.clone(), socket.clone(), query.to_vec());
                tokio::spawn(async move {
                    if let Some(answer) = elsewhere(&own, &query, true).await {
                        let _ = socket.send_to(&answer, from).await;
                    }
                });
            }
        }
    }
}

async fn connections(engine: Engine, own: Arc<Own>, listener: TcpListener) {
    loop {
        let Ok(permit) = own.connections.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (engine, own) = (engine.clone(), own.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let _ = converse(&engine, &own, stream).await;
        });
    }
}

/// Questions over one connection, each behind its length (RFC 1035, 4.2.2).
async fn converse(engine: &Engine, own: &Own, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let query = timeout(SILENCE, read(&mut stream)).await??;
        let answer = match engine.answer(own, &query, false) {
            Outcome::Answer(answer) => Some(answer),
            Outcome::Nothing => None,
            Outcome::Unknown => elsewhere(own, &query, false).await,
        };
        match answer {
            Some(answer) => write(&mut stream, &answer).await?,
            None => return Ok(()),
        }
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

/// Asks the servers in their order. A container whose networks are all internal has none (CVE-2024-29018).
async fn elsewhere(own: &Own, query: &[u8], datagram: bool) -> Option<Vec<u8>> {
    if locked(&own.networks).1 {
        let _permit = own.asking.acquire().await.ok()?;
        for server in &own.servers {
            let asked = async {
                if datagram { by_datagram(*server, query).await } else { by_connection(*server, query).await }
            };
            if let Ok(Ok(answer)) = timeout(PATIENCE, asked).await {
                return Some(answer);
            }
        }
    }
    names::failure(query, false)
}

async fn by_datagram(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    // A socket of its own each: its random port is what makes an answer hard to forge.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if buffer[..length].get(..2) == query.get(..2) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn by_connection(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write(&mut stream, query).await?;
    read(&mut stream).await
}
