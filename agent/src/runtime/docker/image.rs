//! Images and the bridges of environments.

use super::{ASK, DockerRuntime, WORK, wire, within};
use crate::network::{Bridge, Bridges, NotOurs};
use crate::runtime::{Got, RegistryLogin, RuntimeError};
use bollard::models::{Ipam, IpamConfig, Network, NetworkCreateRequest};
use bollard::query_parameters::{CreateImageOptionsBuilder, ListNetworksOptions, ListNetworksOptionsBuilder};
use futures_util::StreamExt;
use lapstrake_core::assignment::BoundImage;
use lapstrake_core::ids::{EnvironmentId, NodeId};
use lapstrake_core::image::repository;
use lapstrake_core::node::action::Subnet;
use lapstrake_core::spec::{ImageSource, Pull};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// A registry that sends nothing for so long has stalled.
const PULL_SILENCE: Duration = Duration::from_secs(60);
/// A large image over a slow line; the replacement's own time limit is usually shorter.
const PULL: Duration = Duration::from_secs(30 * 60);
/// A registry's answer to one small question.
const REGISTRY: Duration = Duration::from_secs(30);
/// The engine's option that names a bridge's interface.
const BRIDGE_OPTION: &str = "com.docker.network.bridge.name";

impl DockerRuntime {
    pub(super) async fn get_image(
        &self,
        image: &BoundImage,
        login: Option<&RegistryLogin>,
    ) -> Result<Got, RuntimeError> {
        let docker = self.engine().await?;
        match within(ASK, "inspect image", docker.inspect_image(image.pinned())).await {
            Ok(_) => return Ok(Got::WasHere),
            Err(RuntimeError::NoSuchImage(_) | RuntimeError::NotThere(_)) => {}
            Err(error) => return Err(error),
        }
        match image {
            BoundImage::Id { id, .. } => Err(RuntimeError::NoSuchImage(format!("the node does not hold {id}"))),
            BoundImage::Digest { pinned, .. } => {
                let before = self.image_names().await?;
                match tokio::time::timeout(PULL, self.download(pinned, login)).await {
                    Ok(outcome) => outcome.map_err(|error| wire::refused_by_registry(error, login))?,
                    Err(_) => {
                        return Err(RuntimeError::Refused(format!("not done within {} min", PULL.as_secs() / 60)));
                    }
                }
                self.brought(pinned, &before).await
            }
        }
    }

    async fn download(&self, pinned: &str, login: Option<&RegistryLogin>) -> Result<(), RuntimeError> {
        let options = CreateImageOptionsBuilder::default().from_image(pinned).build();
        let docker = self.engine().await?.clone();
        let mut progress = Box::pin(docker.create_image(Some(options), None, wire::credentials(login)));
        loop {
            match tokio::time::timeout(PULL_SILENCE, progress.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(step))) => {
                    if let Some(said) = step.error_detail.and_then(|detail| detail.message) {
                        return Err(RuntimeError::Refused(said));
                    }
                }
                Ok(Some(Err(error))) => return Err(wire::failed(error)),
                Err(_) => {
                    let silence = PULL_SILENCE.as_secs();
                    return Err(RuntimeError::Refused(format!("the registry sent nothing for {silence} s")));
                }
            }
        }
    }

    pub(super) async fn meaning_of(
        &self,
        image: &ImageSource,
        login: Option<&RegistryLogin>,
    ) -> Result<String, RuntimeError> {
        let docker = self.engine().await?;
        match image.pull {
            Pull::Local => {
                // The engine's own sentence names the image twice, and the controller's names it once more.
                let absent = |error| match error {
                    RuntimeError::NoSuchImage(_) | RuntimeError::NotThere(_) => {
                        RuntimeError::NoSuchImage("its engine does not hold it".into())
                    }
                    other => other,
                };
                let found =
                    within(ASK, "inspect image", docker.inspect_image(&image.reference)).await.map_err(absent)?;
                found.id.ok_or_else(|| RuntimeError::Refused("the engine told no id of the image".into()))
            }
            Pull::Registry => {
                let asked = docker.inspect_registry_image(&image.reference, wire::credentials(login));
                let told = within(REGISTRY, "the registry", asked).await;
                let told = told.map_err(|error| wire::refused_by_registry(error, login))?;
                let digest = told.descriptor.digest;
                let digest = digest.ok_or_else(|| RuntimeError::Refused("the registry told no digest".into()))?;
                Ok(format!("{}@{digest}", repository(&image.reference)))
            }
        }
    }

    pub(super) fn network_name(&self, environment: EnvironmentId) -> String {
        format!("lap-{}-{environment}", self.owner.node)
    }

    async fn own_networks(&self) -> Result<Vec<(EnvironmentId, Network)>, RuntimeError> {
        let filters = HashMap::from([("label".to_owned(), wire::owner_filter(self.owner))]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let listed = within(ASK, "list networks", self.engine().await?.list_networks(Some(options))).await?;
        Ok(listed.into_iter().filter_map(|network| Some((environment(&network)?, network))).collect())
    }

    pub(super) async fn bridges(&self) -> Result<Bridges, RuntimeError> {
        let asked = self.engine().await?.list_networks(None::<ListNetworksOptions>);
        let listed = within(ASK, "list networks", asked).await?;
        let mut bridges = Bridges::default();
        for network in listed {
            let is_own = network.labels.as_ref().and_then(wire::owner_of) == Some(self.owner);
            let subnets = subnets(&network);
            match environment(&network).filter(|_| is_own) {
                Some(environment) => {
                    let told = bridge(self.owner.node, environment, &network);
                    bridges.add(environment, told, subnets.first().copied());
                }
                None => bridges.others.extend(subnets),
            }
        }
        Ok(bridges)
    }

    pub(super) async fn make_network(
        &self,
        environment: EnvironmentId,
        subnet: Subnet,
    ) -> Result<Bridge, RuntimeError> {
        let own = Bridge::of(self.owner.node, environment);
        let wanted = format!("{}/{}", subnet.base, subnet.prefix);
        // By its name, too: jobs are put on a network by that.
        let name = self.network_name(environment);
        let stands = |(owner, network): &(EnvironmentId, Network)| {
            *owner == environment && network.name.as_deref() == Some(&name)
        };
        if let Some((_, found)) = self.own_networks().await?.into_iter().find(stands) {
            let own = bridge(self.owner.node, environment, &found)
                .map_err(|error| RuntimeError::Refused(format!("the network {name} stands, but {error}")))?;
            let has = found.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
            if has.iter().any(|range| range.subnet.as_deref() == Some(&wanted)) {
                return Ok(own);
            }
            return Err(RuntimeError::Refused(format!("the environment's bridge {own} stands, but not with {wanted}")));
        }
        let gateway = Ipv4Addr::from(u32::from(subnet.base) + 1);
        let range = IpamConfig { subnet: Some(wanted), gateway: Some(gateway.to_string()), ..Default::default() };
        let labels = [
            ("cluster", self.owner.cluster.to_string()),
            ("node", self.owner.node.to_string()),
            ("environment", environment.to_string()),
        ];
        let request = NetworkCreateRequest {
            name,
            driver: Some("bridge".into()),
            ipam: Some(Ipam { config: Some(vec![range]), ..Default::default() }),
            enable_ipv6: Some(false),
            options: Some(HashMap::from([(BRIDGE_OPTION.to_owned(), own.to_string())])),
            labels: Some(labels.into_iter().map(|(word, value)| (wire::label(word), value)).collect()),
            ..Default::default()
        };
        within(WORK, "create network", self.engine().await?.create_network(request)).await?;
        Ok(own)
    }

    pub(super) async fn drop_network(&self, environment: EnvironmentId) -> Result<(), RuntimeError> {
        let name = self.network_name(environment);
        within(WORK, "remove network", self.engine().await?.remove_network(&name)).await
    }
}

/// The interface of a network that carries an environment's labels, if it is the one that this node gave it.
fn bridge(node: NodeId, environment: EnvironmentId, network: &Network) -> Result<Bridge, NotOurs> {
    // A network without the option got a name from the engine, which is not ours either.
    let told = network.options.as_ref().and_then(|options| options.get(BRIDGE_OPTION));
    Bridge::told(node, environment, told.map_or("", String::as_str))
}

/// Which environment labels name.
fn environment(network: &Network) -> Option<EnvironmentId> {
    network.labels.as_ref()?.get(&wire::label("environment"))?.parse().ok()
}

/// The IPv4 addresses of a network.
fn subnets(network: &Network) -> Vec<Subnet> {
    let ranges = network.ipam.iter().flat_map(|ipam| ipam.config.iter().flatten());
    ranges.filter_map(|range| subnet(range.subnet.as_deref()?)).collect()
}

fn subnet(text: &str) -> Option<Subnet> {
    let (base, prefix) = text.split_once('/')?;
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    Some(Subnet::around(base.parse().ok()?, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn the_addresses_of_a_bridge_are_read_and_those_of_ipv6_are_left_out() {
        let read = Subnet { base: Ipv4Addr::new(172, 17, 0, 0), prefix: 16 };
        assert_eq!(subnet("172.17.0.0/16"), Some(read));
        assert_eq!(["fd00::/64", "10.0.0.0/33", "10.0.0.0"].map(subnet), [None; 3]);
    }

    #[test]
    fn a_network_with_our_labels_and_a_hostile_name_is_not_ours() {
        let (node, shop) = (NodeId(7), EnvironmentId(8));
        let network = |option: Option<&str>| Network {
            name: Some("../../x".into()),
            options: option.map(|told| HashMap::from([(BRIDGE_OPTION.to_owned(), told.to_owned())])),
            ..Default::default()
        };
        let own = Bridge::of(node, shop);
        assert_eq!(bridge(node, shop, &network(Some(own.name()))), Ok(own));
        for told in [None, Some(""), Some("../../x"), Some("a b"), Some("\"; flush ruleset"), Some("eth0")] {
            let refused = bridge(node, shop, &network(told)).expect_err("refused").to_string();
            assert!(refused.contains("not a name that this agent gave"), "{refused}");
        }
    }
}
