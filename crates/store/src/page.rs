//! Keyset pages: a page begins after a position, never at an offset, so that the thousandth costs what the first does.

/// Which page is wanted.
#[derive(Debug, Clone)]
pub struct PageRequest<P> {
    /// The position of the last item already seen; `None` begins.
    pub after: Option<P>,
    /// The most items to answer.
    pub limit: u32,
}

impl<P> PageRequest<P> {
    /// The first page.
    pub const fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    /// One more than wanted is read, to know whether there is a next page.
    pub(crate) fn fetch_limit(&self) -> u64 {
        u64::from(self.limit) + 1
    }
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page<T, P> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<P>,
}

impl<T, P> Page<T, P> {
    /// Makes a page of what [`PageRequest::fetch_limit`] read.
    pub(crate) fn new(mut items: Vec<T>, limit: u32, position: impl Fn(&T) -> P) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(position) } else { None };
        Self { items, next }
    }
}
