es("projection","list"); es("schema","verify"); es("schema","migrate"); es("stream","show","a#1"); es("import","in.jsonl")
