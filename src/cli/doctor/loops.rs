//! Check for addresses of instances that lead back to this daemon, or to another one, and not to Marketo.

use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use tokio::net::{UdpSocket, lookup_host};
use url::Url;

use crate::cli::doctor::finding::Finding;
use crate::client;
use crate::config::{Config, Instance};
use crate::marketo::Client;

const ADVICE: &str = "give the daemon Marketo's own address; where a name server of yours leads Marketo's name here, the \
                      daemon has to use another";

/// Checks that no instance's address is that of this daemon or of another one.
pub async fn check_loops(config: &Config, own: &client::Client) -> Vec<Finding> {
    let own = own.daemon_id().await.ok().flatten();
    let checks = config
        .instances
        .iter()
        .map(|(name, instance)| check_instance(name, instance, config.api.listen, own.as_deref()));
    join_all(checks).await.into_iter().flatten().collect()
}

/// Checks one instance: by a request if the daemon runs, else by the address that it will listen on.
async fn check_instance(
    name: &str,
    instance: &Instance,
    listen: Option<SocketAddr>,
    own: Option<&str>,
) -> Option<Finding> {
    let check = format!("address of {name}");
    let back = || {
        let detail =
            format!("the address of instance {name} leads back to this daemon, which then refuses its own calls");
        Finding::error(check.clone(), detail, ADVICE)
    };
    let answered_by = match Client::new(instance) {
        Ok(client) => client.answering_daemons().await,
        Err(_) => Vec::new(),
    };
    if answered_by.iter().any(|id| Some(id.as_str()) == own) {
        return Some(back());
    }
    for url in [&instance.base_url, &instance.identity_url] {
        if let Some(listen) = listen
            && leads_to(url, listen).await
        {
            return Some(back());
        }
    }
    (!answered_by.is_empty()).then(|| {
        let detail = format!("at the address of instance {name} a marqueue daemon answers, and not Marketo");
        Finding::warning(check.clone(), detail, "make sure that this is intended")
    })
}

/// Whether a connection to `url` comes to this machine and to this port.
async fn leads_to(url: &str, listen: SocketAddr) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
    if port != listen.port() {
        return false;
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let Ok(addresses) = lookup_host((host, port)).await else { return false };
    for address in addresses {
        let ip = address.ip().to_canonical();
        if (listen.ip().is_unspecified() || ip == listen.ip().to_canonical()) && is_of_this_machine(ip).await {
            return true;
        }
    }
    false
}

/// Only an address of this machine can be bound. Nothing is sent.
async fn is_of_this_machine(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn own_address_and_port_are_recognised() {
        for (url, listen, expected) in [
            ("http://127.0.0.1:8437", "127.0.0.1:8437", true),
            ("http://127.0.0.1:8437/identity", "0.0.0.0:8437", true),
            ("http://127.0.0.1:8438", "127.0.0.1:8437", false),
            ("http://127.0.0.2:8437", "127.0.0.1:8437", false),
            ("https://127.0.0.1", "0.0.0.0:443", true),
            // An address of the range for documentation, which is never assigned.
            ("https://192.0.2.1", "0.0.0.0:443", false),
            ("https://nowhere.invalid", "0.0.0.0:443", false),
        ] {
            assert_eq!(leads_to(url, listen.parse().unwrap()).await, expected, "{url} and {listen}");
        }
    }
}
