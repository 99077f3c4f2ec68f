//! The other end, for programs that may block: one connection, a call at a time.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    protocol::{Event, Reply, Request, STDIN},
    wire,
};

/// A connection to a shim.
#[derive(Debug)]
pub struct Client(UnixStream);

impl Client {
    /// To the shim in `dir`, however long its path is.
    pub fn connect(dir: &Path) -> io::Result<Self> {
        Ok(Self(sys::fdpass::connect_to(&dir.join("shim.sock"))?.into()))
    }

    /// Over a socket that is already connected: the first connection.
    pub fn over(socket: UnixStream) -> Self {
        Self(socket)
    }

    /// The socket, for timeouts and shutdown.
    pub fn socket(&self) -> &UnixStream {
        &self.0
    }

    /// Sends `request` and waits for the answer.
    pub fn ask(&mut self, request: &Request) -> io::Result<Reply> {
        self.send(request)?;
        self.reply()
    }

    /// Sends `request` only.
    pub fn send(&mut self, request: &impl Serialize) -> io::Result<()> {
        self.0.write_all(&wire::message(request)?)
    }

    /// The next reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        self.receive()
    }

    /// The next event, after [`Request::Watch`].
    pub fn event(&mut self) -> io::Result<Event> {
        self.receive()
    }

    /// Sends bytes to the process's standard input, after an attach.
    pub fn write_stdin(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(crate::protocol::MAX_FRAME as usize) {
            self.0.write_all(&wire::frame_header(STDIN, part.len() as u32))?;
            self.0.write_all(part)?;
        }
        Ok(())
    }

    /// Ends the process's standard input.
    pub fn close_stdin(&mut self) -> io::Result<()> {
        self.0.write_all(&wire::frame_header(STDIN, 0))
    }

    /// The next frame of output: kind and content; none after the last.
    pub fn frame(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let mut header = [0; wire::FRAME_HEADER];
        if self.0.read(&mut header[..1])? == 0 {
            return Ok(None);
        }
        self.0.read_exact(&mut header[1..])?;
        let (kind, length) = wire::parse_frame_header(header)?;
        let mut content = vec![0; length as usize];
        self.0.read_exact(&mut content)?;
        Ok(Some((kind, content)))
    }

    fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut header = [0; wire::MESSAGE_HEADER];
        self.0.read_exact(&mut header)?;
        let mut json = vec![0; wire::message_length(header)? as usize];
        self.0.read_exact(&mut json)?;
        Ok(serde_json::from_slice(&json)?)
    }
}
