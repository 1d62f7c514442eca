//! Login of the demonstration's page: a client of the daemon, made for one run.

/// The client of `api.clients` with which the page is opened. A client sees its own jobs only, so the sample files are
/// added as this client too.
pub struct PageLogin {
    /// Its id.
    pub client_id: &'static str,
    /// Its secret.
    pub client_secret: String,
}

impl PageLogin {
    /// Makes a client with a random secret. It is valid for one run: any user of this machine can connect to a port of
    /// 127.0.0.1.
    pub fn generate() -> PageLogin {
        PageLogin { client_id: "demo", client_secret: format!("{:032x}", rand::random::<u128>()) }
    }

    /// Returns the client as part of the configuration.
    pub fn configuration(&self) -> String {
        let PageLogin { client_id, client_secret } = self;
        format!("[[api.clients]]\nclient_id = '{client_id}'\nclient_secret = '{client_secret}'\n")
    }

    /// Returns the address of the listener, as a variable of the environment.
    pub fn listen() -> (String, String) {
        ("MARQUEUE_API__LISTEN".to_owned(), "127.0.0.1:0".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::demo::environment::configuration;
    use crate::config::Config;

    #[test]
    fn the_client_is_in_the_configuration_with_a_secret_of_its_own() {
        let [login, other] = [PageLogin::generate(), PageLogin::generate()];
        assert_ne!(login.client_secret, other.client_secret);
        let text = configuration("q.db", "m.sock", "http://127.0.0.1:1") + &login.configuration();
        let config = Config::read(Some((Path::new("m.toml"), &text)), [PageLogin::listen()]).unwrap();
        assert_eq!(config.api.listen.map(|listen| listen.to_string()).as_deref(), Some("127.0.0.1:0"));
    }
}
