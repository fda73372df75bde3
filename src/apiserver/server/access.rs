//! Who is asking, and whether they may: put together from settings and from files, which are read again when they
//! change.

use std::sync::Arc;

use base::{OnError, Tasks};

use super::error::StartError;
use crate::authn::oidc::config::AuthenticationConfiguration;
use crate::authn::{Bearers, Known, ServiceAccounts, TokenWebhook};
use crate::authz::chain::Chain;
use crate::authz::config::AuthorizationConfiguration;
use crate::config::ServerConfig;
use crate::lookup::Lookup;
use crate::outbound::Outbound;
use crate::rbac::Rbac;
use crate::reload::{Followed, Reloads};

/// Everybody who knows tokens, and who may ask without one.
pub(super) fn bearers(
    config: &ServerConfig,
    accounts: Arc<ServiceAccounts>,
    lookup: Arc<dyn Lookup>,
    tasks: &Tasks,
) -> Result<Arc<Bearers>, StartError> {
    let mut bearers = Bearers::own(accounts, lookup, config.clock.clone());
    let outbound = Outbound::to_hosts();
    let told = &config.authentication;
    if let Some(file) = &told.token_webhook {
        let wrong = |why: String| StartError::Setting(format!("{}: {why}", file.display()));
        let webhook = TokenWebhook::open(file, outbound.clone(), config.clock.clone()).map_err(wrong)?;
        bearers.webhook = Some(webhook);
    }
    let bearers = Arc::new(bearers);
    let configured = bearers.clone();
    let take = move |told: &AuthenticationConfiguration| {
        configured.configured.change(Known::of(told, &outbound)?);
        Ok::<_, String>(())
    };
    match (&told.config, told.oidc.is_set()) {
        (None, false) => {}
        (None, true) => {
            let told = told.oidc.configuration();
            told.and_then(|told| take(&told)).map_err(StartError::Setting)?;
        }
        (Some(_), true) => {
            let why =
                "authentication-config and oidc-* settings exclude each other: name the issuer in the file";
            return Err(StartError::Setting(why.into()));
        }
        (Some(file), false) => {
            let take = move |text: &str| take(&AuthenticationConfiguration::parse(text)?);
            let followed = Followed::read(file, &take).map_err(StartError::Setting)?;
            let reloads = Reloads::new(&config.metrics, "authentication");
            let follow = followed.follow(reloads, take);
            tasks.spawn("follow who is known", OnError::Shutdown, follow);
        }
    }
    Ok(bearers)
}

/// Whoever is asked whether a user may.
pub(super) fn authorizer(
    config: &ServerConfig,
    rbac: Arc<Rbac>,
    tasks: &Tasks,
) -> Result<Arc<Chain>, StartError> {
    let chain = Arc::new(Chain::new(rbac, &config.metrics));
    let told = &config.authorization;
    let (configured, outbound, clock) = (chain.clone(), Outbound::to_hosts(), config.clock.clone());
    let Some(file) = &told.config else {
        let told = AuthorizationConfiguration::of(told);
        let made = told.and_then(|told| chain.configure(&told, &outbound, &clock));
        return made.map(|()| chain).map_err(StartError::Setting);
    };
    if told.modes.is_some() || told.webhook.is_some() {
        let why = "authorization-config excludes authorization-mode and authorization-webhook-*: say it in the file";
        return Err(StartError::Setting(why.into()));
    }
    let take = move |text: &str| {
        let told = AuthorizationConfiguration::parse(text)?;
        configured.configure(&told, &outbound, &clock)
    };
    let followed = Followed::read(file, &take).map_err(StartError::Setting)?;
    let reloads = Reloads::new(&config.metrics, "authorization");
    tasks.spawn(
        "follow who may",
        OnError::Shutdown,
        followed.follow(reloads, take),
    );
    Ok(chain)
}
