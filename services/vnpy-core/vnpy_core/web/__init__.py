"""The HTTP toolkit that every feature's endpoints share: problem details, authentication, paging."""
