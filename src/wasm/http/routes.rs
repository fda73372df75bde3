//! Which of several programs answers a path, in Spin's terms. Pure.
//!
//! A route is a path (`/hello`), may have named parts (`/users/:name`), and
//! may end in `/...` for everything below. Of those that match, parts that are
//! written out win over named ones, and longer routes over shorter.

use std::cmp::Ordering;

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    text: String,
    parts: Vec<Part>,
    /// It ends in `/...`.
    is_open: bool,
    handler: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Exact(String),
    Named(String),
}

/// All routes of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Router(Vec<Route>);

/// What a path matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Match<'a> {
    /// Number of the handler.
    pub(crate) handler: usize,
    /// The route as it was written.
    pub(crate) route: &'a str,
    /// What an open route left over, begun with a slash; else empty.
    pub(crate) rest: String,
    /// Names of parts and what stands there.
    pub(crate) named: Vec<(&'a str, String)>,
}

impl Match<'_> {
    /// The route without the mark of an open one.
    pub(crate) fn prefix(&self) -> &str {
        self.route.strip_suffix("/...").unwrap_or(self.route)
    }
}

impl Router {
    /// Adds a route that leads to a handler; of two that are alike the later one counts.
    pub(crate) fn add(&mut self, text: &str, handler: usize) {
        let (path, is_open) = match text.strip_suffix("/...").or_else(|| text.strip_suffix("/*")) {
            Some(path) => (path, true),
            None => (text, false),
        };
        let part = |part: &str| match part.strip_prefix(':') {
            Some(name) => Part::Named(name.to_owned()),
            None => Part::Exact(part.to_owned()),
        };
        let parts = split(path).map(part).collect();
        let route = Route {
            text: text.to_owned(),
            parts,
            is_open,
            handler,
        };
        self.0
            .retain(|other| (&other.parts, other.is_open) != (&route.parts, route.is_open));
        self.0.push(route);
        self.0.sort_by(Route::before);
    }

    /// The best match of a request's path.
    pub(crate) fn find(&self, path: &str) -> Option<Match<'_>> {
        self.0.iter().find_map(|route| route.matched(path))
    }
}

/// The parts of a path; slashes at its end mean nothing.
fn split(path: &str) -> impl Iterator<Item = &str> {
    path.trim_matches('/').split('/').filter(|part| !part.is_empty())
}

impl Route {
    /// Better routes come first.
    fn before(&self, other: &Route) -> Ordering {
        let rank = |route: &Route| -> Vec<u8> {
            let parts = route.parts.iter().map(|part| match part {
                Part::Exact(_) => 2,
                Part::Named(_) => 1,
            });
            parts.chain([if route.is_open { 0 } else { 3 }]).collect()
        };
        rank(other).cmp(&rank(self))
    }

    fn matched(&self, path: &str) -> Option<Match<'_>> {
        let mut given = split(path);
        let mut named = Vec::new();
        for part in &self.parts {
            let text = given.next()?;
            match part {
                Part::Exact(wanted) if wanted == text => {}
                Part::Exact(_) => return None,
                Part::Named(name) => named.push((name.as_str(), text.to_owned())),
            }
        }
        let mut rest: String = given.map(|part| format!("/{part}")).collect();
        if !self.is_open && !rest.is_empty() {
            return None;
        }
        if self.is_open && path.ends_with('/') && path.len() > 1 {
            rest.push('/');
        }
        Some(Match {
            handler: self.handler,
            route: &self.text,
            rest,
            named,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[&str]) -> Router {
        let mut router = Router::default();
        for (number, route) in routes.iter().enumerate() {
            router.add(route, number);
        }
        router
    }

    fn found(routes: &[&str], path: &str) -> Option<(String, String)> {
        let router = router(routes);
        router.find(path).map(|m| (m.route.to_owned(), m.rest))
    }

    fn pair(route: &str, rest: &str) -> Option<(String, String)> {
        Some((route.to_owned(), rest.to_owned()))
    }

    #[test]
    fn exact_wins_over_open_and_long_over_short_in_any_order() {
        let mut routes = ["/...", "/one", "/one/...", "/one/two/...", "/one/:name/three"];
        for _ in 0..2 {
            assert_eq!(found(&routes, "/one"), pair("/one", ""));
            assert_eq!(found(&routes, "/one/"), pair("/one", ""));
            assert_eq!(found(&routes, "/one/x"), pair("/one/...", "/x"));
            assert_eq!(found(&routes, "/one/two/three"), pair("/one/two/...", "/three"));
            assert_eq!(found(&routes, "/one/x/three"), pair("/one/:name/three", ""));
            assert_eq!(found(&routes, "/other/y/"), pair("/...", "/other/y/"));
            assert_eq!(found(&routes, "/"), pair("/...", ""));
            routes.reverse();
        }
    }

    #[test]
    fn what_no_route_covers_is_not_found() {
        assert_eq!(found(&["/one", "/two/..."], "/"), None);
        assert_eq!(found(&["/one", "/two/..."], "/one/more"), None);
        assert_eq!(found(&["/one", "/two/..."], "/twofold"), None);
        assert_eq!(found(&["/"], "/"), pair("/", ""));
        assert_eq!(found(&["/"], "/x"), None);
    }

    #[test]
    fn names_and_prefixes_are_told() {
        let router = router(&["/users/:id/files/..."]);
        let found = router.find("/users/7/files/a/b").unwrap();
        assert_eq!(found.named, [("id", "7".to_owned())]);
        assert_eq!(
            (found.prefix(), found.rest.as_str()),
            ("/users/:id/files", "/a/b")
        );
    }

    #[test]
    fn of_two_alike_the_later_counts() {
        assert_eq!(router(&["/a", "/a/"]).find("/a").unwrap().handler, 1);
    }
}
