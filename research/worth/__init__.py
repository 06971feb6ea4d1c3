"""Is it worth federating? Sites together against the site that stays at home, where a federation may pay."""
