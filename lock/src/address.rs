//! Where a server is, as its URL says, and what it is called where others may read it.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use crate::error::SetupError;

#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// Without user and password.
    pub(crate) name: String,
    pub(crate) info: ConnectionInfo,
}

impl Address {
    /// Reads `redis://USER:PASSWORD@HOST:PORT/DATABASE`, `rediss://...` or `unix:/PATH`.
    pub(crate) fn parse(url: &str) -> Result<Self, SetupError> {
        let complain = |why: String| SetupError::Url { url: harmless(url), why };
        if url.starts_with("rediss://") && !cfg!(feature = "tls") {
            return Err(complain(
                "this program was built without TLS (feature `tls` of hornpipe-lock)".to_owned(),
            ));
        }
        choose_cryptography();
        // The path alone is what people write.
        let spelled = match url.strip_prefix("unix:") {
            Some(path) if !path.starts_with("//") => format!("unix://{path}"),
            _ => url.to_owned(),
        };
        let info = spelled.as_str().into_connection_info().map_err(|error| complain(why(&error)))?;
        // Nothing but a round trip more at each connection.
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        let name = name(&info);
        Ok(Self { name, info: info.set_redis_settings(settings) })
    }
}

/// For TLS, unless the program has chosen already. Without one, connecting would panic.
#[cfg(feature = "tls")]
fn choose_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread was first, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
    }
}

#[cfg(not(feature = "tls"))]
fn choose_cryptography() {}

fn name(info: &ConnectionInfo) -> String {
    let database = match info.redis_settings().db() {
        0 => String::new(),
        database => format!("/{database}"),
    };
    match info.addr() {
        ConnectionAddr::Unix(path) => format!("unix:{}{database}", path.display()),
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } if host.contains(':') => {
            format!("[{host}]:{port}{database}")
        }
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            format!("{host}:{port}{database}")
        }
        _ => "a server".to_owned(),
    }
}

/// A URL that cannot be read may hold a password all the same.
fn harmless(url: &str) -> String {
    let shown = match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_secret, host))) => format!("{scheme}://...@{host}"),
        (None, Some((_secret, host))) => format!("...@{host}"),
        _ => url.to_owned(),
    };
    shown.split_once('?').map_or(shown.clone(), |(before, _query)| before.to_owned())
}

fn why(error: &redis::RedisError) -> String {
    match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(url: &str) -> String {
        Address::parse(url).unwrap().name
    }

    #[test]
    fn a_server_is_named_without_its_password() {
        assert_eq!(name_of("redis://ann:secret@a.example:7000/3"), "a.example:7000/3");
        assert_eq!(name_of("redis://a.example"), "a.example:6379");
        assert_eq!(name_of("redis://[::1]:7000"), "[::1]:7000");
        assert_eq!(name_of("unix:/run/r.sock"), "unix:/run/r.sock");
        assert_eq!(name_of("unix:///run/r.sock?db=2&pass=secret"), "unix:/run/r.sock/2");
    }

    #[test]
    fn what_is_no_server_is_told_without_its_password() {
        for url in [
            "ftp://ann:secret@a",
            "redis://ann:secret@",
            "ann:secret@a",
            "unix:?pass=secret",
            "",
            "redis://:secret@a/x",
        ] {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn user_password_and_database_are_taken_from_the_url() {
        let info = Address::parse("redis://ann:se%20cret@a/3").unwrap().info;
        let settings = info.redis_settings();
        assert_eq!(
            (settings.username(), settings.password(), settings.db()),
            (Some("ann"), Some("se cret"), 3)
        );
    }
}
