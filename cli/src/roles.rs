//! The roles of this process, opened and linked: what a configuration becomes before anyone listens.

use tonic::service::Routes;

use crate::{config::Config, exit::Failure};

/// The store of this process.
pub(crate) struct Store;

/// The proxy of this process.
pub(crate) struct Proxy;

impl Store {
    pub(crate) fn open(_config: &Config, _salvage: bool) -> Result<Self, Failure> {
        Ok(Self)
    }

    pub(crate) async fn summary(&self) -> String {
        "empty".to_owned()
    }

    pub(crate) async fn failed(&self) -> String {
        std::future::pending().await
    }

    pub(crate) fn close(self) -> Result<(), Failure> {
        Ok(())
    }
}

impl Proxy {
    pub(crate) fn open(_config: &Config, _store: &Store) -> Result<Self, Failure> {
        Ok(Self)
    }

    pub(crate) fn routes(&self) -> Routes {
        Routes::default()
    }

    pub(crate) fn admin_routes(&self) -> Routes {
        Routes::default()
    }

    pub(crate) fn drain(&self) {}
}
