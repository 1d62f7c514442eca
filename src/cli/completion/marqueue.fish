# Completion of marqueue for fish. The program is asked for what can stand at the cursor.
complete --keep-order --no-files --command marqueue --arguments "(COMPLETE=fish marqueue -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token) 2>/dev/null)"
