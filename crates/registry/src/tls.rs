//! TLS by rustls: the system's authorities and the ones that an administrator adds.

use std::{
    fmt, fs, io,
    io::{Read, Write},
    path::Path,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::{Error, hosts::Trust, url::Origin};

/// Longest PEM file that is read.
const MAX_PEM: u64 = 4 << 20;

/// The one place that chooses who computes.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The system's authorities; read once, for that takes milliseconds.
fn system() -> &'static [CertificateDer<'static>] {
    static SYSTEM: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    SYSTEM.get_or_init(|| rustls_native_certs::load_native_certs().certs)
}

/// How to speak TLS with a host that is trusted so.
pub(crate) fn client_config(trust: &Trust) -> Result<ClientConfig, Error> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(Error::config)?;
    let own =
        trust.authorities.iter().map(|path| certificates(path)).collect::<Result<Vec<_>, _>>()?.concat();
    let verifier: Arc<dyn ServerCertVerifier> = if trust.unchecked {
        Arc::new(Unchecked(provider))
    } else {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(own.iter().chain(system()).cloned());
        if roots.is_empty() {
            return Err(Error::Tls {
                what: "tls: there is no certificate authority on this host".to_owned(),
                remedy: "install the package ca-certificates".to_owned(),
            });
        }
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(Error::config)?;
        Arc::new(Verifier { chains, own })
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    match &trust.client {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let complain = |e: &dyn fmt::Display| Error::config(format!("client key {}: {e}", key.display()));
            let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| complain(&e))?;
            builder.with_client_auth_cert(certificates(certificate)?, private).map_err(|e| complain(&e))
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_PEM).read_to_end(&mut bytes))
        .map_err(|e| Error::config(format!("read {}: {e}", path.display())))?;
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let complain = |e: &dyn fmt::Display| Error::config(format!("certificates in {}: {e}", path.display()));
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match all {
        Ok(all) if all.is_empty() => Err(complain(&"there are none")),
        Ok(all) => Ok(all),
        Err(e) => Err(complain(&e)),
    }
}

/// Chains are checked by webpki. It refuses a certificate that is its own authority at the end of a chain; Docker's
/// own instructions for a registry make such ones, so one that an administrator put there is taken for itself.
#[derive(Debug)]
struct Verifier {
    chains: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.own.iter().any(|own| own == end) {
            return self.chains.verify_server_cert(end, between, name, ocsp, now);
        }
        let (from, to) = crate::x509::validity(end)
            .ok_or(rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding))?;
        if now.as_secs() < from || now.as_secs() > to {
            return Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Expired));
        }
        let parsed = rustls::server::ParsedCertificate::try_from(end)?;
        rustls::client::verify_server_name(&parsed, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// For hosts that an administrator listed as insecure.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Puts TLS on top of a connection of ureq's where the URL asks for it.
pub(crate) struct Tls(pub(crate) Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Secured>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        below: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(below) = below else {
            return Ok(None);
        };
        if !details.needs_tls() || below.is_tls() {
            return Ok(Some(Either::A(below)));
        }
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|_| ureq::Error::Tls("the host is not a name"))?;
        let mut connection = ClientConnection::new(self.0.clone(), name).map_err(io::Error::other)?;
        let mut socket = TransportAdapter::new(below.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        let stream = StreamOwned { conn: connection, sock: socket };
        Ok(Some(Either::B(Secured { buffers, stream })))
    }
}

/// A connection with TLS.
pub(crate) struct Secured {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secured")
    }
}

impl Transport for Secured {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// A fault of TLS in Go's words, which Docker's users know, and what helps.
pub(crate) fn fault(error: &rustls::Error, origin: &Origin) -> Error {
    use rustls::{CertificateError as C, Error as E, InvalidMessage};
    let host = &origin.authority;
    let listed = format!("list \"{host}\" under \"insecure-registries\" in daemon.json if that is meant");
    let authority =
        format!("put the certificate of its authority into /etc/docker/certs.d/{host}/ca.crt, or {listed}");
    let x509 = |what: &str, remedy: String| Error::Tls {
        what: format!("tls: failed to verify certificate: x509: {what}"),
        remedy,
    };
    match error {
        E::InvalidMessage(InvalidMessage::InvalidContentType) | E::InappropriateMessage { .. } => {
            Error::Tls { what: "http: server gave HTTP response to HTTPS client".to_owned(), remedy: listed }
        }
        E::InvalidCertificate(C::UnknownIssuer | C::Other(_)) => {
            x509("certificate signed by unknown authority", authority)
        }
        E::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => {
            x509("certificate has expired or is not yet valid", "renew it, or set the clock".to_owned())
        }
        E::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
            x509("certificate has expired or is not yet valid", "set the clock".to_owned())
        }
        E::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            let name = origin.name().trim_matches(['[', ']']);
            x509(
                &format!("certificate is not valid for {name}"),
                "use a name that it has, or have it made for this one (subjectAltName)".to_owned(),
            )
        }
        E::InvalidCertificate(why) => x509(&format!("{why:?}"), authority),
        E::AlertReceived(alert) => Error::Tls {
            what: format!("remote error: tls: {alert:?}"),
            remedy: format!(
                "if it wants a client certificate, put client.cert and client.key into /etc/docker/certs.d/{host}/"
            ),
        },
        other => Error::Tls { what: format!("tls: {other}"), remedy: format!("{host} has to be repaired") },
    }
}
