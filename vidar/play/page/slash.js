// All addresses of the page are relative, so its own address has to end with a slash, whatever path it is under.
if (!location.pathname.endsWith("/")) location.replace(`${location.pathname}/${location.search}${location.hash}`);
