//! Where to connect, and a TCP stream that keeps a deadline and counts.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context;

/// `HOST[:PORT]`, port 443 when left out; IPv6 addresses with a port in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl FromStr for Target {
    type Err = String;

    /// Takes what people paste, `https://host/path` included.
    fn from_str(text: &str) -> Result<Self, String> {
        let authority = text.strip_prefix("https://").unwrap_or(text);
        let authority = authority.split('/').next().unwrap_or(authority);
        let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
            let (host, rest) =
                bracketed.split_once(']').ok_or("an IPv6 address lacks its closing bracket")?;
            (host, rest.strip_prefix(':'))
        } else if authority.parse::<IpAddr>().is_ok() {
            (authority, None)
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        if host.is_empty() {
            return Err("the host is missing; write HOST or HOST:PORT".to_owned());
        }
        let port = match port {
            None => 443,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("\"{port}\" is no port; write a number from 1 to 65535"))?,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

impl Target {
    /// Looks the name up and returns the first address that takes a TCP connection.
    ///
    /// # Errors
    /// Says which step failed, name lookup or connection, and for which address.
    pub fn resolve(&self, timeout: Duration) -> anyhow::Result<SocketAddr> {
        let addresses: Vec<_> = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .with_context(|| {
                format!("cannot look up \"{}\"; is the name right, and is there a network?", self.host)
            })?
            .collect();
        let mut last_error = None;
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(_) => return Ok(address),
                Err(error) => last_error = Some((address, error)),
            }
        }
        let (address, error) = last_error.with_context(|| format!("\"{}\" has no address", self.host))?;
        let hint = match error.kind() {
            io::ErrorKind::ConnectionRefused => "nothing listens there: is the server up, is the port right?",
            io::ErrorKind::TimedOut => {
                "no answer: a firewall, or the wrong address? (--timeout waits longer)"
            }
            _ => "is the host reachable from here?",
        };
        Err(error).with_context(|| format!("cannot connect to {address}; {hint}"))
    }
}

/// A TCP stream with one deadline for everything done on it, which counts bytes and notes when the first one came.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    deadline: Instant,
    /// Bytes written.
    pub sent: u64,
    /// Bytes read.
    pub received: u64,
    /// When the first byte was read.
    pub first_byte_at: Option<Instant>,
}

impl Connection {
    /// Connects; all that follows on the connection has to be done within `timeout` from now.
    ///
    /// # Errors
    /// Those of connecting.
    pub fn open(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + timeout;
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        Ok(Self { deadline, ..Self::accepted(stream, timeout)? })
    }

    /// Takes over a stream that is connected already; what follows has to be done within `timeout` from now.
    ///
    /// # Errors
    /// When the stream is gone already.
    pub fn accepted(stream: TcpStream, timeout: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, deadline: Instant::now() + timeout, sent: 0, received: 0, first_byte_at: None })
    }

    /// Sets a new deadline, `timeout` from now.
    pub fn extend(&mut self, timeout: Duration) {
        self.deadline = Instant::now() + timeout;
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// When the connection is gone already.
    pub fn finish_writing(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    fn remaining(&self) -> io::Result<Duration> {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(remaining) }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.remaining()?))?;
        let count = self.stream.read(buffer).map_err(timed_out)?;
        if count > 0 && self.first_byte_at.is_none() {
            self.first_byte_at = Some(Instant::now());
        }
        self.received += count as u64;
        Ok(count)
    }
}

impl Write for Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.remaining()?))?;
        let count = self.stream.write(buffer).map_err(timed_out)?;
        self.sent += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A socket time-out is reported as `EAGAIN`, which says nothing to a reader.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, port: u16) -> Result<Target, String> {
        Ok(Target { host: host.to_owned(), port })
    }

    #[test]
    fn targets_are_read_as_people_write_them() {
        assert_eq!("example.org".parse(), target("example.org", 443));
        assert_eq!("example.org:8443".parse(), target("example.org", 8443));
        assert_eq!("https://example.org/path?a:b".parse(), target("example.org", 443));
        assert_eq!("127.0.0.1:1".parse(), target("127.0.0.1", 1));
        assert_eq!("::1".parse(), target("::1", 443));
        assert_eq!("[2001:db8::1]:65535".parse(), target("2001:db8::1", 65535));
        assert_eq!("[::1]".parse(), target("::1", 443));
        assert_eq!(Target { host: "::1".to_owned(), port: 443 }.to_string(), "[::1]:443");
    }

    #[test]
    fn a_wrong_target_is_refused() {
        for wrong in ["", ":443", "host:", "host:0", "host:65536", "host:https", "[::1"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
