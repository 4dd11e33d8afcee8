//! What a handler needs of its caller, as a type: a handler cannot be written without saying it.

use multicredit_store::Scope;

/// A requirement that a handler states by taking an [`Auth`](super::Auth) of it.
pub trait Requirement: 'static {
    /// The scope that the key must have. `admin` stands in for every other.
    const SCOPE: Scope;
    /// Whether the key must be bound to no organization, for what concerns them all.
    const UNBOUND: bool = false;
}

macro_rules! requirements {
    ($($(#[$doc:meta])* $name:ident = $scope:ident $(, unbound = $unbound:literal)?;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl Requirement for $name {
            const SCOPE: Scope = Scope::$scope;
            $(const UNBOUND: bool = $unbound;)?
        }
    )+};
}

requirements! {
    /// To look, and to ask for quotes.
    Read = Read;
    /// To look at what concerns all organizations.
    Observe = Read, unbound = true;
    /// To spend.
    Consume = Consume;
    /// To give.
    Credit = Credit;
    /// To administer what the key sees.
    Admin = Admin;
    /// To administer what concerns all organizations.
    Operate = Admin, unbound = true;
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// The set of those scopes.
    pub fn of(scopes: &[Scope]) -> Self {
        Self(scopes.iter().fold(0, |set, scope| set | bit(*scope)))
    }

    /// Whether they allow what needs `scope`.
    pub const fn allow(self, scope: Scope) -> bool {
        self.0 & (bit(scope) | bit(Scope::Admin)) != 0
    }
}

const fn bit(scope: Scope) -> u8 {
    match scope {
        Scope::Read => 1,
        Scope::Consume => 2,
        Scope::Credit => 4,
        Scope::Admin => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_allows_itself_and_admin_allows_all() {
        for granted in Scope::ALL {
            for needed in Scope::ALL {
                let expected = granted == needed || granted == Scope::Admin;
                assert_eq!(Scopes::of(&[granted]).allow(needed), expected, "{granted:?} for {needed:?}");
            }
        }
        assert!(!Scopes::of(&[]).allow(Scope::Read));
        assert!(Scopes::of(&[Scope::Read, Scope::Credit]).allow(Scope::Credit));
    }
}
