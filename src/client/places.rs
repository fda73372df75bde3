//! The servers that a client may go to, one of which it is at. Pure.

use rustls::pki_types::ServerName;

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The name to expect in its certificate.
    pub server_name: ServerName<'static>,
}

impl Place {
    /// Reads `https://HOST[:PORT]`; `None` if it is none. `server_name` is the name to expect in the
    /// certificate, the host if empty.
    pub fn parse(url: &str, server_name: &str) -> Option<Self> {
        let uri: http::Uri = url.parse().ok()?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = if server_name.is_empty() {
            &host
        } else {
            server_name
        };
        Some(Self {
            port: uri.port_u16().unwrap_or(443),
            server_name: ServerName::try_from(name.to_owned()).ok()?,
            host,
        })
    }

    /// `HOST:PORT`, as URLs have it.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// See the module. There is always one.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    at: Place,
    others: Vec<Place>,
}

impl Places {
    /// The first one is tried first.
    pub fn new(first: Place, others: Vec<Place>) -> Self {
        let mut places = Self {
            at: first,
            others: Vec::new(),
        };
        places.replace(others);
        places
    }

    /// Where the client is, or goes first.
    pub fn at(&self) -> &Place {
        &self.at
    }

    /// In the order in which to try them.
    pub fn all(&self) -> Vec<Place> {
        std::iter::once(&self.at).chain(&self.others).cloned().collect()
    }

    /// There are these beside the one where the client is.
    pub fn replace(&mut self, others: Vec<Place>) {
        self.others.clear();
        for place in others {
            if place != self.at && !self.others.contains(&place) {
                self.others.push(place);
            }
        }
    }

    /// The client is there now.
    pub fn arrive(&mut self, place: &Place) {
        if let Some(found) = self.others.iter_mut().find(|other| *other == place) {
            std::mem::swap(found, &mut self.at);
        }
    }

    /// The one where the client is does not serve it: it is the last to be tried from now on.
    pub fn leave(&mut self) {
        if !self.others.is_empty() {
            let next = self.others.remove(0);
            self.others.push(std::mem::replace(&mut self.at, next));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str) -> Place {
        Place::parse(&format!("https://{host}:6443"), "").unwrap()
    }

    #[test]
    fn every_server_gets_its_turn() {
        let mut places = Places::new(place("a"), vec![place("b"), place("a"), place("c"), place("b")]);
        let order = |places: &Places| places.all().iter().map(|p| p.host.clone()).collect::<String>();
        assert_eq!(order(&places), "abc");
        places.leave();
        assert_eq!(order(&places), "bca");
        places.arrive(&place("a"));
        assert_eq!(order(&places), "acb");
        places.replace(vec![place("d"), place("a")]);
        assert_eq!(order(&places), "ad");
        let mut lonely = Places::new(place("a"), Vec::new());
        lonely.leave();
        assert_eq!(lonely.at(), &place("a"));
    }

    #[test]
    fn only_https_urls_with_a_host_will_do() {
        assert_eq!(place("10.0.0.1").authority(), "10.0.0.1:6443");
        assert_eq!(
            Place::parse("https://[::1]:7", "").unwrap().authority(),
            "[::1]:7"
        );
        assert_eq!(Place::parse("https://h", "").unwrap().port, 443);
        for wrong in ["http://h:1", "h", ""] {
            assert_eq!(Place::parse(wrong, ""), None);
        }
    }
}
